"""What no machine can be: the physical bounds of a profile, checked when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from moesim.config.amounts.dimensions import format_bytes
from moesim.config.document import Steps
from moesim.config.units import Bandwidth
from moesim.hardware.described.datasheet import Datasheet
from moesim.hardware.described.host import Topology
from moesim.hardware.described.links import DIRECTIONS
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.profile import HardwareProfile

Breach = tuple[Steps, str]
RATES = (1e9, 1e14)
"""Bytes a second between which the memory of every card from 2010 to 2030 lies."""
PEAKS = (1e9, 1e18)
"""Operations a second, likewise; a core of a CPU has the least."""


def breaches(profile: HardwareProfile) -> Iterator[Breach]:
    """The path of each value that cannot be, and why."""
    yield from _memory(profile.datasheet)
    yield from _compute(profile.datasheet)
    yield from _copies(profile.datasheet)
    if profile.host.remote_node_fraction is not None and profile.host.numa_nodes.value == 1:
        what = "is of other NUMA nodes, and 'numa_nodes' is 1; leave it out"
        yield ("host", "remote_node_fraction", "value"), what
    if profile.topology is not None:
        yield from _wiring(profile.topology)
        yield from _host(profile, profile.topology)


def _memory(sheet: Datasheet) -> Iterator[Breach]:
    memory, reserve, l2 = (one.value for one in (sheet.memory, sheet.context_reserve, sheet.l2))
    if memory <= min(reserve, l2):
        what = f"{format_bytes(memory)} is not above the {format_bytes(l2)} of its L2 cache"
        yield ("datasheet", "memory", "value"), f"{what}; is the unit right?"
    elif reserve >= memory:
        what = f"{format_bytes(reserve)} takes the whole memory of {format_bytes(memory)}"
        yield ("datasheet", "context_reserve", "value"), f"{what}; write less, or more memory"
    elif l2 >= memory:
        what = f"{format_bytes(l2)} is not below the {format_bytes(memory)} of the device memory"
        yield ("datasheet", "l2", "value"), f"{what}; is the unit right?"
    if not RATES[0] <= sheet.memory_bandwidth.value <= RATES[1]:
        yield (
            ("datasheet", "memory_bandwidth", "value"),
            "is outside 1 GB/s to 100 TB/s; is the unit right?",
        )


def _compute(sheet: Datasheet) -> Iterator[Breach]:
    rates = {
        name: entry.value
        for name in type(sheet.compute).model_fields
        if (entry := getattr(sheet.compute, name)) is not None
    }
    for name, rate in rates.items():
        if not PEAKS[0] <= rate <= PEAKS[1]:
            yield (
                ("datasheet", "compute", name, "value"),
                "is outside 1 GFLOP/s to 1000 PFLOP/s; is the unit right?",
            )
    for narrow, wide in (("fp4", "fp8"), ("fp8", "fp16"), ("int8", "fp16")):
        if narrow in rates and wide in rates and rates[narrow] < rates[wide]:
            yield (
                ("datasheet", "compute", narrow, "value"),
                f"is below {wide}; leave {narrow} out where the card has no units for it",
            )


def _copies(sheet: Datasheet) -> Iterator[Breach]:
    for direction in DIRECTIONS:
        pinned, pageable = sheet.copy_of(direction), sheet.copy_of(direction, pinned=False)
        path = ("datasheet", "copies", direction)
        if pinned.bandwidth.value > sheet.pcie.value:
            yield (*path, "pinned", "bandwidth", "value"), f"is above {_slot(sheet.pcie)}"
        if pageable.bandwidth.value > pinned.bandwidth.value:
            yield (
                (*path, "pageable", "bandwidth", "value"),
                "is above the pinned copy's; pageable memory is staged through pinned memory",
            )
    if sheet.peers.kind == "pcie" and sheet.peers.bandwidth.value > sheet.pcie.value:
        yield ("datasheet", "peers", "bandwidth", "value"), f"is above {_slot(sheet.pcie)}"


def _slot(pcie: Sourced[Bandwidth]) -> str:
    return f"the slot's 'pcie' bandwidth of {pcie.value / 1e9:g} GB/s"


def _wiring(topology: Topology) -> Iterator[Breach]:
    gpus = topology.gpus
    if gpus != tuple(range(len(gpus))):
        yield (
            ("topology", "numa"),
            f"names the GPUs {list(gpus)}; each of 0 to {len(gpus) - 1} must stand there once",
        )
    seen: set[int] = set()
    for index, switch in enumerate(topology.switches):
        for gpu in switch.gpus:
            path = ("topology", "switches", index, "gpus")
            if gpu not in gpus:
                yield path, f"names GPU {gpu}, which is in no NUMA node; add it to 'numa'"
            elif gpu in seen:
                yield path, f"names GPU {gpu} again; a GPU hangs on one switch"
            seen.add(gpu)


def _host(profile: HardwareProfile, topology: Topology) -> Iterator[Breach]:
    nodes = profile.host.numa_nodes.value
    if len(topology.numa) > nodes:
        what = f"lists {len(topology.numa)} NUMA nodes; the host has {nodes} ('host.numa_nodes')"
        yield ("topology", "numa"), what
