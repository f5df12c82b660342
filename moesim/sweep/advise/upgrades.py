"""Machines with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from moesim.config.params import Params
from moesim.hardware import HardwareProfile

Part = TypeVar("Part", bound=Params)
Change = Callable[[HardwareProfile], HardwareProfile]
CHANGED = ""
"""The source of changed values until their profile is written."""


@dataclass(frozen=True)
class Upgrade:
    """A changed machine, or other software; ``resized``: whether room for experts may grow."""

    key: str
    title: str
    change: Change | None = None
    software: str | None = None
    resized: bool = False


def times(part: Part, factor: float, most: float = float("inf")) -> Part:
    """A sourced value or an estimate times ``factor``, up to ``most`` (never less than it was)."""

    def larger(value: Any) -> Any:
        return type(value)(max(value, min(value * factor, most)))

    update: dict[str, Any] = {"value": larger(part.value)}  # type: ignore[attr-defined]
    if hasattr(part, "interval"):
        update["interval"] = tuple(larger(end) for end in part.interval)
    else:
        update["source"] = CHANGED
    return part.model_copy(update=update)


def changed(part: Part, **changes: Any) -> Part:
    """``part`` with other fields."""
    return part.model_copy(update=changes)


def _fits(hardware: HardwareProfile, change: Callable[[str, Any], Any]) -> Any:
    """The calibrated part with ``change(kind, fit)`` of each fit."""
    part = hardware.calibrated
    kinds = type(part).model_fields if part is not None else {}
    found = {kind: tuple(change(kind, fit) for fit in getattr(part, kind)) for kind in kinds}
    return part and changed(part, **found)


def _host_fits(hardware: HardwareProfile, rate: str) -> Any:
    """Fits of experts on the host with twice the ``rate``."""

    def change(kind: str, fit: Any) -> Any:
        if kind != "kernels" or fit.op != "cpu_expert" or getattr(fit, rate) is None:
            return fit
        return changed(fit, **{rate: times(getattr(fit, rate), 2)})

    return _fits(hardware, change)


def next_pcie(hardware: HardwareProfile) -> HardwareProfile:
    """Twice the slot, its copies and switches; a copy is no faster than a node's DRAM."""
    sheet, most = hardware.datasheet, hardware.host.node_bytes_per_second

    def copies(directions: Any) -> Any:
        kinds = {name: getattr(directions, name) for name in ("pinned", "pageable")}
        faster = {n: changed(c, bandwidth=times(c.bandwidth, 2, most)) for n, c in kinds.items()}
        return changed(directions, **faster)

    def fit(kind: str, one: Any) -> Any:
        host = kind == "copies" and one.op != "copy_p2p"
        return changed(one, bandwidth=times(one.bandwidth, 2, most)) if host else one

    both = {way: copies(getattr(sheet.copies, way)) for way in ("h2d", "d2h")}
    peers = sheet.peers
    if peers.kind == "pcie":
        peers = changed(peers, bandwidth=times(peers.bandwidth, 2, most))
    topology = hardware.topology
    if topology is not None:
        switches = tuple(changed(s, uplink=times(s.uplink, 2)) for s in topology.switches)
        topology = changed(topology, switches=switches)
    sheet = changed(
        sheet, pcie=times(sheet.pcie, 2), copies=changed(sheet.copies, **both), peers=peers
    )
    return changed(hardware, datasheet=sheet, topology=topology, calibrated=_fits(hardware, fit))


def twice_dram(hardware: HardwareProfile) -> HardwareProfile:
    """Twice the DRAM bandwidth of each NUMA node."""
    host = changed(hardware.host, memory_bandwidth=times(hardware.host.memory_bandwidth, 2))
    return changed(hardware, host=host, calibrated=_host_fits(hardware, "bandwidth"))


def twice_cores(hardware: HardwareProfile) -> HardwareProfile:
    """Twice the cores, and the threads on them."""
    host, threads = hardware.host, hardware.host.threads
    host = changed(host, cores=times(host.cores, 2), threads=threads and times(threads, 2))
    return changed(hardware, host=host, calibrated=_host_fits(hardware, "compute"))


def more_memory(factor: float) -> Change:
    """So many times the GPU's memory."""

    def change(hardware: HardwareProfile) -> HardwareProfile:
        sheet = hardware.datasheet
        return changed(hardware, datasheet=changed(sheet, memory=times(sheet.memory, factor)))

    return change


def twice_gpu_bandwidth(hardware: HardwareProfile) -> HardwareProfile:
    """Twice the bandwidth of the GPU's memory, in fits of its kernels too."""
    sheet = hardware.datasheet

    def fit(kind: str, one: Any) -> Any:
        if kind in ("copies", "collectives") or getattr(one, "op", None) == "cpu_expert":
            return one
        rates = ("bandwidth", "activation_bandwidth")
        known = {name: rate for name in rates if (rate := getattr(one, name, None)) is not None}
        return changed(one, **{name: times(rate, 2) for name, rate in known.items()})

    sheet = changed(sheet, memory_bandwidth=times(sheet.memory_bandwidth, 2))
    return changed(hardware, datasheet=sheet, calibrated=_fits(hardware, fit))


UPGRADES: Mapping[str, Upgrade] = {
    upgrade.key: upgrade
    for upgrade in (
        Upgrade("next_pcie", "next PCIe generation", next_pcie),
        Upgrade("twice_dram", "2 x DRAM bandwidth", twice_dram),
        Upgrade("twice_cores", "2 x CPU cores", twice_cores),
        Upgrade("memory_x1.5", "1.5 x GPU memory", more_memory(1.5), resized=True),
        Upgrade("memory_x2", "2 x GPU memory", more_memory(2), resized=True),
        Upgrade("twice_gpu_bandwidth", "2 x GPU memory bandwidth", twice_gpu_bandwidth),
        Upgrade("no_software", "no software cost", software="ideal"),
    )
}
