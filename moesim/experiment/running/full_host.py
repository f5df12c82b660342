"""Experts on the CPU that take nearly all of their host's memory."""

from __future__ import annotations

from moesim.config.amounts.sizes import GIB
from moesim.experiment.building.built import Built
from moesim.hardware.described.reached import FAULTS_BYTES_PER_S, SYSTEM_BYTES

PRICED = "hardware: {storage: nvme-pcie4} and experts: {host: {capacity: auto}} price that"


def from_drive(built: Built) -> float | None:
    """How many times as long the experts of a host that has no drive may take whose system leaves
    them too little memory; None where it leaves enough, or where theirs is pinned.
    """
    needed, hardware = built.footprint.host, built.hardware
    left = max(0, hardware.host_memory_bytes - SYSTEM_BYTES)
    if needed <= left or built.footprint.pinned or hardware.host.storage:
        return None
    reached = hardware.host.expert_share.value * hardware.host.expert_peak
    return 1 + (1 - left / needed) * reached / FAULTS_BYTES_PER_S


def full_host_notes(built: Built) -> list[str]:
    """What the time of such a host leaves out, and what would price it."""
    if (times := from_drive(built)) is None:
        return []
    needed, memory = built.footprint.host / GIB, built.hardware.host_memory_bytes / GIB
    what = f"experts take {needed:.1f} of its {memory:.1f} GiB, and no drive is named: with"
    system = f"{SYSTEM_BYTES / GIB:g} GiB for its system some are read by page faults, and they may"
    return [f"{what} {system} take up to {times:.1f} times as long; {PRICED}"]
