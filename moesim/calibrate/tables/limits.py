"""What a card cannot do, however good the kernel: rows beyond it have a wrong unit or shape."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moesim.hardware.measurements.columns import BYTES
from moesim.hardware.measurements.validate import LINE, Finding, Mask, number
from moesim.hardware.operations.experts.fit_shapes import expert_shapes
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.profile import HardwareProfile

MARGIN = 0.85
"""Clocks above the datasheet's, and times rounded down."""
SLOW_FACTOR, SLOW_NS = 200.0, 50e6
"""Slower than this many times the limit and longer than this: a wrong unit."""
MAY_STAY = 1.5
"""Caches beyond the L2 that the datasheet names keep at most this much of it."""
COPIES = ("copy_h2d", "copy_d2h")
PEERS = ("copy_p2p", "all_reduce", "all_to_all")
"""Between GPUs; a switch that adds receives what a GPU holds of an all-reduce once."""


def within(table: pd.DataFrame, profile: HardwareProfile) -> tuple[pd.DataFrame, list[Finding]]:
    """The rows that the card of ``profile`` can do, and the others by line."""
    least = least_ns(table, profile)
    latency = number(table, "latency_ns")
    fast = latency < least * MARGIN
    slow = (latency > least * SLOW_FACTOR) & (latency > SLOW_NS) & (least > 0)
    findings = [
        *_told(table, fast, latency, least, "is faster than the datasheet allows"),
        *_told(table, slow, latency, least, "is too slow for any kernel"),
    ]
    kept = table[~(fast | slow)].reset_index(drop=True)
    return kept, sorted(findings)


def _told(
    table: pd.DataFrame, mask: Mask, latency: Floats, least: Floats, what: str
) -> list[Finding]:
    return [
        Finding(int(line), f"{time:.0f} ns {what} (at least {bound:.0f} ns); is the unit right?")
        for line, time, bound in zip(
            table[LINE].to_numpy()[mask], latency[mask], least[mask], strict=True
        )
    ]


def least_ns(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    """The time below which the datasheet rules a row out; 0 where it rules nothing out."""
    least = np.zeros(len(table))
    sheet = profile.datasheet
    ops = table["op"].to_numpy(object)
    rate = sheet.memory_bandwidth.value
    if (moe := ops == "moe").any():
        shapes = expert_shapes(table[moe], profile)
        read = np.maximum(shapes.touched_bytes - MAY_STAY * sheet.l2.value, 0) / rate
        elements = shapes.hidden * shapes.inter * np.where(shapes.gated, 3, 2)
        least[moe] = np.maximum(read, 2.0 * shapes.total * elements / shapes.peak) * NS
    if (gemm := ops == "gemm").any():
        part = table[gemm]
        m, n, k = (number(part, name) for name in ("m", "n", "k"))
        dtypes = part["dtype"].to_numpy(object)
        peak = np.array([profile.peak(dtype) for dtype in dtypes])
        size = n * k * np.array([BYTES.get(dtype, 1.0) for dtype in dtypes])
        read = np.maximum(size - MAY_STAY * sheet.l2.value, 0) / rate
        least[gemm] = np.maximum(read, 2 * m * n * k / peak) * NS
    if (copy := np.isin(ops, COPIES)).any():
        least[copy] = number(table[copy], "bytes") * NS / sheet.pcie.value
    if (peer := np.isin(ops, list(PEERS))).any():
        part, rate = table[peer], sheet.peers.bandwidth.value
        rate = rate if sheet.peers.kind == "nvlink" else max(rate, sheet.pcie.value)
        stays = np.where(ops[peer] == "all_to_all", 1 / number(part, "gpus", 2.0), 0.0)
        least[peer] = number(part, "bytes") * (1 - stays) * NS / rate
    return least
