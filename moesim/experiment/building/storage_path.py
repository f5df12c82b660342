"""How experts come from a drive where the experiment leaves it to its software."""

from __future__ import annotations

from typing import Literal, NamedTuple

from moesim.experiment.schema.experts import HostMemory
from moesim.hardware import HardwareProfile
from moesim.hardware.described.software import SoftwareProfile


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
