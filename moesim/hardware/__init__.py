"""Machines and software stacks, and what operations cost on them."""

from moesim.hardware.cost_model import CostModel
from moesim.hardware.described.datasheet import Direction
from moesim.hardware.described.kernel_counts import KernelCounts
from moesim.hardware.described.links import Links
from moesim.hardware.described.software import SoftwareProfile
from moesim.hardware.load import (
    gpu_names,
    hardware_file,
    hardware_names,
    load_hardware,
    load_software,
    machine_named,
    near_machine,
    software_names,
)
from moesim.hardware.profile import HardwareProfile

__all__ = [
    "CostModel",
    "Direction",
    "HardwareProfile",
    "KernelCounts",
    "Links",
    "SoftwareProfile",
    "gpu_names",
    "hardware_file",
    "hardware_names",
    "load_hardware",
    "load_software",
    "machine_named",
    "near_machine",
    "software_names",
]
