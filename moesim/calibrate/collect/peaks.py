"""The best that a table's rows show of a machine: what its base profile gives as limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from moesim.hardware.measurements.columns import BYTES
from moesim.hardware.measurements.validate import flag, number
from moesim.hardware.prices.arrays import NS, Floats

LARGE_CACHES = 3
"""Operands of this many caches are read from memory."""


class CopyRate(NamedTuple):
    """A copy: latency in nanoseconds, bytes a second, and the rows behind them."""

    latency_ns: float
    bandwidth: float
    points: int


class Peaks(NamedTuple):
    """Rates in operations or bytes a second; None or absent where no row shows them."""

    compute: Mapping[str, float]
    memory_bandwidth: float | None
    bandwidth_fraction: float | None
    start_ns: float | None
    copies: Mapping[tuple[str, bool], CopyRate]
    fastest_copy: float | None
    peer: CopyRate | None
    host_bandwidth: float | None


def peaks_of(table: pd.DataFrame, cache_bytes: int, on_cpu: bool) -> Peaks:
    """The peaks of a valid table of one machine whose last cache has ``cache_bytes``.

    No row is faster than these allow: they are the best over all rows, products and experts alike.
    """
    work, size, width = _products(table)
    latency = number(table, "latency_ns")
    read = np.maximum(size - cache_bytes, 0.0) * NS / latency
    large = (size > LARGE_CACHES * cache_bytes) & (width == 1)
    rates = size[large] * NS / latency[large]
    best = max(read.max(initial=0.0), rates.max(initial=0.0)) or None
    copies = _copies(table)
    return Peaks(
        compute=_compute(table, work * NS / latency),
        memory_bandwidth=best,
        bandwidth_fraction=float(np.median(rates)) / best if best and len(rates) else None,
        start_ns=_start(table, on_cpu),
        copies={key: rate for key, part in copies.items() if (rate := _copy_rate(part))},
        fastest_copy=_fastest(copies),
        peer=_copy_rate(table[table["op"] == "copy_p2p"]),
        host_bandwidth=best if on_cpu else _host(table),
    )


def _products(table: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Operations, bytes of the weights, and rows, of products and experts; 0 of other ops."""
    ops = table["op"].to_numpy(object)
    product, expert = ops == "gemm", ops == "moe"
    matrices = np.where(flag(table, "gated"), 3, 2)
    experts = number(table, "hidden") * number(table, "inter") * matrices
    elements = np.where(product, number(table, "n") * number(table, "k"), experts)
    rows = np.where(product, number(table, "m"), number(table, "tokens") * number(table, "top_k"))
    sets = np.where(product, 1.0, number(table, "distinct_experts", 1.0))
    width = np.array([BYTES.get(dtype, 0.0) for dtype in table["dtype"]])
    known = product | expert
    work, size = 2 * rows * elements, sets * elements * width
    return np.where(known, work, 0.0), np.where(known, size, 0.0), np.where(known, rows, 0.0)


def _compute(table: pd.DataFrame, rates: Floats) -> dict[str, float]:
    best = pd.Series(rates).groupby(table["dtype"].to_numpy(object)).max()
    return {str(dtype): float(rate) for dtype, rate in best.items() if rate > 0}


def _start(table: pd.DataFrame, on_cpu: bool) -> float | None:
    kernel = "eager" if on_cpu else "graph"
    part = table[(table["op"] == "launch") & (table.get("kernel_source") == kernel)]
    return None if part.empty else float(part["latency_ns"].min())


def _copies(table: pd.DataFrame) -> dict[tuple[str, bool], pd.DataFrame]:
    """The rows of each direction and kind of memory, of one GPU at a time."""
    part = table[table["op"].isin(["copy_h2d", "copy_d2h"])]
    alone = part[number(part, "gpus", 1.0) == 1]
    pinned = flag(alone, "pinned")
    directions = alone["op"].str.removeprefix("copy_")
    groups = alone.groupby([directions.to_numpy(object), pinned])
    return {(str(op), bool(kind)): rows for (op, kind), rows in groups}


def _copy_rate(rows: pd.DataFrame) -> CopyRate | None:
    """Latency of the smallest copy; bandwidth of the largest, beyond that latency."""
    cold = rows[number(rows, "l2_warm", 0.0) == 0]
    if cold.empty:
        return None
    by_size = cold.groupby("bytes")["latency_ns"].median()
    latency = float(by_size.iloc[0])
    bandwidth = by_size.index[-1] * NS / max(float(by_size.iloc[-1]) - latency, 1.0)
    return CopyRate(latency, float(bandwidth), len(cold))


def _fastest(copies: Mapping[tuple[str, bool], pd.DataFrame]) -> float | None:
    rates = [(rows["bytes"] * NS / rows["latency_ns"]).max() for rows in copies.values()]
    return float(max(rates)) if rates else None


def _host(table: pd.DataFrame) -> float | None:
    """What experts on the host's cores read a second."""
    part = table[table["op"] == "cpu_expert"]
    matrices = np.where(flag(part, "gated"), 3, 2)
    width = np.array([BYTES.get(dtype, 0.0) for dtype in part["dtype"]])
    size = number(part, "hidden") * number(part, "inter") * matrices * width
    rates = size * NS / number(part, "latency_ns")
    return float(rates.max()) if len(rates) else None
