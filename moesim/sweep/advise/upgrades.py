"""Machines with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from moesim.config.params import Params
from moesim.hardware import HardwareProfile

Part = TypeVar("Part", bound=Params)
Change = Callable[[HardwareProfile], HardwareProfile]
CHANGED = ""
"""The source of changed values until their profile is written."""


@dataclass(frozen=True)
class Upgrade:
    """A changed machine, or other software; ``resized``: whether room for experts may grow;
    ``below``: only where experts are read from a drive; ``near``: only where a near-memory device
    computes them; ``resident``: only where all fit.
    """

    key: str
    title: str
    change: Change | None = None
    software: str | None = None
    resized: bool = False
    below: bool = False
    near: bool = False
    resident: bool = False


def times(part: Part, factor: float, most: float = float("inf")) -> Part:
    """A sourced value or an estimate times ``factor``; one that grows by it, up to ``most`` (never
    less than it was).
    """

    def other(value: Any) -> Any:
        return type(value)(min(value * factor, max(value, most)))

    update: dict[str, Any] = {"value": other(part.value)}  # type: ignore[attr-defined]
    if hasattr(part, "interval"):
        update["interval"] = tuple(other(end) for end in part.interval)
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


def _host_fits(hardware: HardwareProfile, rate: str, factor: float) -> Any:
    """Fits of experts on the host with so many times the ``rate``."""

    def change(kind: str, fit: Any) -> Any:
        if kind != "kernels" or fit.op != "cpu_expert" or getattr(fit, rate) is None:
            return fit
        return changed(fit, **{rate: times(getattr(fit, rate), factor)})

    return _fits(hardware, change)


def link(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the slot, its copies and switches; a copy gets no faster than a node's DRAM."""
    sheet, most = hardware.datasheet, hardware.host.node_bytes_per_second

    def copies(directions: Any) -> Any:
        kinds = {name: getattr(directions, name) for name in ("pinned", "pageable")}
        scaled = {
            n: changed(c, bandwidth=times(c.bandwidth, factor, most)) for n, c in kinds.items()
        }
        return changed(directions, **scaled)

    def fit(kind: str, one: Any) -> Any:
        host = kind == "copies" and one.op != "copy_p2p"
        return changed(one, bandwidth=times(one.bandwidth, factor, most)) if host else one

    both = {way: copies(getattr(sheet.copies, way)) for way in ("h2d", "d2h")}
    peers = sheet.peers
    if peers.kind == "pcie":
        peers = changed(peers, bandwidth=times(peers.bandwidth, factor, most))
    topology = hardware.topology
    if topology is not None:
        switches = tuple(changed(s, uplink=times(s.uplink, factor)) for s in topology.switches)
        topology = changed(topology, switches=switches)
    sheet = changed(
        sheet, pcie=times(sheet.pcie, factor), copies=changed(sheet.copies, **both), peers=peers
    )
    return changed(hardware, datasheet=sheet, topology=topology, calibrated=_fits(hardware, fit))


def dram(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the DRAM bandwidth of each NUMA node."""
    host = changed(hardware.host, memory_bandwidth=times(hardware.host.memory_bandwidth, factor))
    return changed(hardware, host=host, calibrated=_host_fits(hardware, "bandwidth", factor))


def cores(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the cores, and the threads on them."""
    host, threads = hardware.host, hardware.host.threads
    more = {"cores": times(host.cores, factor), "threads": threads and times(threads, factor)}
    fits = _host_fits(hardware, "compute", factor)
    return changed(hardware, host=changed(host, **more), calibrated=fits)


def host_memory(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the host's memory."""
    host = changed(hardware.host, memory=times(hardware.host.memory, factor))
    return changed(hardware, host=host)


def drive(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times what a drive's reads reach, and page faults, which are a share of them."""
    storage = hardware.host.storage
    assert storage is not None, "a machine with a drive"
    faster = changed(storage, bandwidth=times(storage.bandwidth, factor))
    if storage.mapped_bandwidth is not None:
        faster = changed(faster, mapped_bandwidth=times(storage.mapped_bandwidth, factor))
    return changed(hardware, host=changed(hardware.host, storage=faster))


def near_bandwidth(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times what each unit of the near-memory device reads of its memory."""
    device = hardware.near_memory
    assert device is not None, "a machine with a near-memory device"
    faster = changed(device, bandwidth=times(device.bandwidth, factor))
    return changed(hardware, near_memory=faster)


def near_rate(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times what each unit of the near-memory device computes, in every format."""
    device = hardware.near_memory
    assert device is not None, "a machine with a near-memory device"
    rates = {name: rate and times(rate, factor) for name, rate in device.rate}
    return changed(hardware, near_memory=changed(device, rate=changed(device.rate, **rates)))


def gpu_memory(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the GPU's memory."""
    sheet = hardware.datasheet
    return changed(hardware, datasheet=changed(sheet, memory=times(sheet.memory, factor)))


def gpu_bandwidth(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the bandwidth of the GPU's memory, in fits of its kernels too."""
    sheet = hardware.datasheet

    def fit(kind: str, one: Any) -> Any:
        if kind in ("copies", "collectives") or getattr(one, "op", None) == "cpu_expert":
            return one
        rates = ("bandwidth", "activation_bandwidth")
        known = {name: rate for name in rates if (rate := getattr(one, name, None)) is not None}
        return changed(one, **{name: times(rate, factor) for name, rate in known.items()})

    sheet = changed(sheet, memory_bandwidth=times(sheet.memory_bandwidth, factor))
    return changed(hardware, datasheet=sheet, calibrated=_fits(hardware, fit))


def gpu_cores(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times the GPU's processors: the rate of its products, in fits of its kernels too, and
    what they read from its caches.
    """
    sheet = hardware.datasheet

    def fit(_kind: str, one: Any) -> Any:
        if getattr(one, "compute", None) is None or getattr(one, "op", None) == "cpu_expert":
            return one
        return changed(one, compute=times(one.compute, factor))

    rates = {name: getattr(sheet.compute, name) for name in type(sheet.compute).model_fields}
    faster = {name: times(rate, factor) for name, rate in rates.items() if rate is not None}
    more = {"multiprocessors": times(sheet.multiprocessors, factor)}
    sheet = changed(sheet, compute=changed(sheet.compute, **faster), **more)
    return changed(hardware, datasheet=sheet, calibrated=_fits(hardware, fit))


def peers(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """So many times what GPUs send one another, in a node, over PCIe at most its slot, and over its
    network.
    """
    sheet, network = hardware.datasheet, hardware.network
    most = sheet.pcie.value if sheet.peers.kind == "pcie" else float("inf")

    def fit(kind: str, one: Any) -> Any:
        sent = kind == "collectives" or (kind == "copies" and one.op == "copy_p2p")
        return changed(one, bandwidth=times(one.bandwidth, factor)) if sent else one

    between = times(sheet.peers.bandwidth, factor, most)
    sheet = changed(sheet, peers=changed(sheet.peers, bandwidth=between))
    if network is not None:
        network = changed(network, bandwidth=times(network.bandwidth, factor))
    fits = _fits(hardware, fit)
    return changed(hardware, datasheet=sheet, network=network, calibrated=fits)


UPGRADES: Mapping[str, Upgrade] = {
    upgrade.key: upgrade
    for upgrade in (
        Upgrade("next_pcie", "next PCIe generation", partial(link, factor=2)),
        Upgrade("twice_dram", "2 x DRAM bandwidth", partial(dram, factor=2)),
        Upgrade("twice_cores", "2 x CPU cores", partial(cores, factor=2)),
        Upgrade(
            "twice_near_bandwidth",
            "2 x near-memory bandwidth",
            partial(near_bandwidth, factor=2),
            near=True,
        ),
        Upgrade("twice_near_rate", "2 x near-memory rate", partial(near_rate, factor=2), near=True),
        Upgrade("memory_x1.5", "1.5 x GPU memory", partial(gpu_memory, factor=1.5), resized=True),
        Upgrade("memory_x2", "2 x GPU memory", partial(gpu_memory, factor=2), resized=True),
        Upgrade(
            "twice_gpu_bandwidth", "2 x GPU memory bandwidth", partial(gpu_bandwidth, factor=2)
        ),
        Upgrade("twice_gpu_cores", "2 x GPU cores", partial(gpu_cores, factor=2), resident=True),
        Upgrade("twice_host_memory", "2 x host memory", partial(host_memory, factor=2), below=True),
        Upgrade("twice_drive", "2 x drive bandwidth", partial(drive, factor=2), below=True),
        Upgrade("no_software", "no software cost", software="ideal"),
    )
}
