"""How experts come from a drive where the experiment leaves it to its software."""

from __future__ import annotations

from typing import Literal, NamedTuple

from moesim.experiment.schema.experts import HostMemory
from moesim.hardware import HardwareProfile
from moesim.hardware.described.software import SoftwareProfile
from moesim.model.spec import ModelSpec


class ChosenPath(NamedTuple):
    """How experts come from storage, and why so."""

    path: Literal["direct", "mmap"]
    reason: str


def path_of(room: HostMemory, software: SoftwareProfile, hardware: HardwareProfile) -> ChosenPath:
    """What ``room`` says, or what ``software`` does with this drive."""
    if room.path != "auto":
        return ChosenPath(room.path, "as written")
    drive = hardware.host.storage
    if not software.mapped:
        return ChosenPath("direct", "it reads")
    if drive is None or drive.mapped_bandwidth is None:
        return ChosenPath("direct", "it maps its file, but page faults of this drive are unknown")
    return ChosenPath("mmap", "it maps its file")


def requests_of(room: HostMemory, model: ModelSpec, *, mapped: bool) -> int:
    """In how many an expert comes: what ``room`` says, or, by page faults, as many as it has
    matrices, which lie in as many places of a file; else one.
    """
    if room.reads is not None:
        return room.reads
    experts = [layer.moe.expert for layer in model.moe_layers if layer.moe]
    return max(expert.matrices for expert in experts) if mapped else 1
