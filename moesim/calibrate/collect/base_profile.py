"""A hardware profile of a machine that no datasheet is shipped of, from what was measured there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import ceil, floor, log10
from typing import Any

from moesim.calibrate.collect.peaks import CopyRate, Peaks
from moesim.config.amounts.dimensions import (
    format_bandwidth,
    format_bytes,
    format_compute_rate,
    format_duration,
    format_percent,
)
from moesim.config.amounts.sizes import MIB
from moesim.config.strict_yaml.yaml import with_end_mark
from moesim.hardware.bounds import PEAKS, RATES

PRIORS: Mapping[str, str] = {
    "measured": "measured here: the best of all rows of the table, so that no row is beyond it",
    "copy_sweep": "measured here: the smallest copy's time, and the rate of the largest",
    "copy_other": "the copy of the other kind or direction, measured here",
    "launch": "measured here: a kernel that does nothing",
    "share": "measured here: one row times matrices that no cache holds, median over best",
    "driver": "driver: what the system or the driver says of this machine",
    "slot": "measured here: the fastest copy, or the slot's generation and width where told",
    "best": "measured here: the peaks are themselves what was reached",
    "context": "prior, a CUDA context with cuBLAS and loaded kernels takes 0.3 to 0.6 GB",
    "no_context": "none: there is no GPU",
    "activations": "prior, in the middle of fits of grouped expert kernels",
    "no_units": "prior, not measured: the rate of the format that was",
    "padding": "prior, tiles are part of the fits",
    "unmeasured": "prior, not measured here: a value of the right order",
    "staged": "prior, copies between GPUs at the rate of copies to the host",
    "peer_latency": "prior, an all-to-all through host memory or the host bridge, 30 to 60 us",
    "peer_share": "prior, half of the copy rate",
    "peer_sweep": "measured here: copies between two GPUs",
}
"""The text of each source."""
UNMEASURED_BANDWIDTH, UNMEASURED_COMPUTE, UNMEASURED_START_NS = 20e9, 200e9, 2e3
PEER_LATENCY_NS = 40e3
UNMEASURED_COPY = CopyRate(2e3, 10e9, 0)
LONGEST_LATENCY_NS, LEAST_RATE = 1e6, 1e6
"""What a profile's copies may have: no latency, or rate, of a table's few bytes is beyond."""
DIGITS = 4
CONTEXT_BYTES = 512 * MIB
Value = tuple[str, str]
"""A number with its unit, and the key of its source."""


def base_text(title: str, peaks: Peaks, facts: Mapping[str, Any]) -> str:
    """The profile's file; ``facts`` are those of ``machine_facts``."""
    sheet, host = _datasheet(peaks, facts), _host(peaks, facts)
    used = {source for part in (sheet, host) for source in _sources(part)}
    lines = [f"title: {json.dumps(title)}", "sources:"]
    lines += [f"  {key}: {json.dumps(text)}" for key, text in PRIORS.items() if key in used]
    lines += ["datasheet:", *_lines(sheet, 1), "host:", *_lines(host, 1)]
    return with_end_mark("\n".join(lines))


def _datasheet(peaks: Peaks, facts: Mapping[str, Any]) -> dict[str, Any]:
    on_cpu = facts["kind"] == "cpu"
    slot = _up(
        max(
            peaks.fastest_copy or UNMEASURED_COPY.bandwidth,
            facts.get("pcie_bytes_per_s", 0),
            LEAST_RATE,
        )
    )
    copies = _copies(peaks, slot)
    start = peaks.start_ns
    return {
        "memory": (format_bytes(facts["device_memory_bytes"]), "driver"),
        "context_reserve": ("0 B", "no_context")
        if on_cpu
        else (format_bytes(CONTEXT_BYTES), "context"),
        "memory_bandwidth": _rate(peaks.memory_bandwidth),
        "l2": (format_bytes(facts["cache_bytes"]), "driver"),
        "multiprocessors": (str(facts["multiprocessors"]), "driver"),
        "kernel_start": (format_duration(_near(start)), "launch")
        if start
        else (format_duration(UNMEASURED_START_NS), "unmeasured"),
        "bandwidth_fraction": (format_percent(_near(peaks.bandwidth_fraction)), "share")
        if peaks.bandwidth_fraction
        else (format_percent(0.9), "unmeasured"),
        "activation_bandwidth_fraction": (format_percent(0.5), "activations"),
        "compute_fraction": (format_percent(1.0), "best"),
        "half_efficient_rows": ("0", "padding"),
        "compute": _compute(peaks.compute),
        "pcie": (format_bandwidth(slot), "slot"),
        "copies": copies,
        "peers": _peers(peaks, slot),
    }


def _up(value: float) -> float:
    """``value`` to four digits, never less."""
    unit = 10.0 ** (floor(log10(value)) - DIGITS + 1)
    return ceil(value / unit) * unit


def _near(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _rate(value: float | None) -> Value:
    if value is None:
        return format_bandwidth(UNMEASURED_BANDWIDTH), "unmeasured"
    return format_bandwidth(_up(max(value, RATES[0]))), "measured"


def _compute(measured: Mapping[str, float]) -> dict[str, Value]:
    """The rates by format; fp32 and fp16 are always there."""
    found = {
        name: (format_compute_rate(_up(max(rate, PEAKS[0]))), "measured")
        for name, rate in measured.items()
    }
    instead = next(iter(measured.values()), None)
    prior = (format_compute_rate(_up(max(instead or UNMEASURED_COMPUTE, PEAKS[0]))), "no_units")
    return {name: found.get(name, prior) for name in dict.fromkeys(["fp32", "fp16", *found])}


def _copies(peaks: Peaks, slot: float) -> dict[str, Any]:
    return {direction: _direction(peaks.copies, direction, slot) for direction in ("h2d", "d2h")}


def _direction(
    measured: Mapping[tuple[str, bool], CopyRate], direction: str, slot: float
) -> dict[str, Any]:
    """Pinned, then pageable: no faster than the slot, than pinned."""
    parts: dict[str, Any] = {}
    limit = slot
    for name, pinned in (("pinned", True), ("pageable", False)):
        own = measured.get((direction, pinned))
        rate = own or _instead(measured, direction, pinned)
        limit = min(limit, max(rate.bandwidth, LEAST_RATE))
        source = "copy_sweep" if own else "copy_other" if rate.points else "unmeasured"
        latency = rate.latency_ns, source
        if rate.latency_ns > LONGEST_LATENCY_NS:  # large copies alone show none
            latency = UNMEASURED_COPY.latency_ns, "unmeasured"
        parts[name] = {
            "latency": (format_duration(_near(latency[0])), latency[1]),
            "bandwidth": (format_bandwidth(_near(limit)), source),
        }
    return parts


def _instead(
    measured: Mapping[tuple[str, bool], CopyRate], direction: str, pinned: bool
) -> CopyRate:
    """The nearest kind that was measured: the same direction first."""
    other = "d2h" if direction == "h2d" else "h2d"
    keys = ((direction, not pinned), (other, pinned), (other, not pinned))
    return next((measured[key] for key in keys if key in measured), UNMEASURED_COPY)


def _peers(peaks: Peaks, slot: float) -> dict[str, Any]:
    host = peaks.copies.get(("h2d", True)) or _instead(peaks.copies, "h2d", pinned=True)
    rate, source = min(host.bandwidth, slot), "staged"
    latency = (format_duration(PEER_LATENCY_NS), "peer_latency")
    if (peer := peaks.peer) is not None:
        rate, source = peer.bandwidth, "peer_sweep"
        latency = (format_duration(_near(peer.latency_ns)), "peer_sweep")
    return {
        "kind": "nvlink" if rate > slot else "pcie",
        "latency": latency,
        "bandwidth": (format_bandwidth(_near(max(rate, LEAST_RATE))), source),
        "all_to_all_fraction": (format_percent(0.5), "peer_share"),
    }


def _host(peaks: Peaks, facts: Mapping[str, Any]) -> dict[str, Value]:
    return {
        "memory": (format_bytes(facts["memory_bytes"]), "driver"),
        "numa_nodes": (str(facts["numa_nodes"]), "driver"),
        "memory_bandwidth": _rate(peaks.host_bandwidth),
        "memory_fraction": (format_percent(1.0), "best"),
        "cores": (str(facts["cores"]), "driver"),
    }


def _sources(part: Any) -> set[str]:
    if isinstance(part, tuple):
        return {part[1]}
    return (
        {s for value in part.values() for s in _sources(value)} if isinstance(part, dict) else set()
    )


def _lines(part: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for name, value in part.items():
        start = f"{'  ' * depth}{name}:"
        if isinstance(value, tuple):
            lines.append(f"{start} {{value: {value[0]}, source: {value[1]}}}")
        elif isinstance(value, dict):
            lines += [start, *_lines(value, depth + 1)]
        else:
            lines.append(f"{start} {value}")
    return lines
