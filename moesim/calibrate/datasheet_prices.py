"""The datasheet's price of every op of a measurement table: rooflines and plain rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from moesim.calibrate.columns import BYTES
from moesim.calibrate.validate import flag, number
from moesim.calibrate.workload import expert_shapes, expert_work
from moesim.hardware.costs.experts import STARTS
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import NS, Floats, Roofline, padded, row_tile
from moesim.hardware.tiles import TRITON

ACTIVATION_BYTES = 2
LOGIT_BYTES = 16
Rate = float | Floats


class Term(NamedTuple):
    """Time of each row for an ``amount`` (bytes, or operations of products), ``fraction`` of the
    ``peak`` rate a second; 0 where there is none.
    """

    time_ns: Floats
    amount: Floats
    peak: Rate
    fraction: float = 1.0


@dataclass(frozen=True)
class Terms:
    """A price: starts and latencies, the longer of ``reads`` and ``products``, then ``moves``."""

    start_ns: Rate
    reads: Term | None = None
    products: Term | None = None
    moves: Term | None = None

    def total_ns(self) -> Floats:
        """The price of each row."""
        longest = np.zeros(())
        for term in (self.reads, self.products):
            longest = longest if term is None else np.maximum(longest, term.time_ns)
        moved = 0.0 if self.moves is None else self.moves.time_ns
        return np.asarray(self.start_ns + longest + moved, np.float64)


Price = Callable[[pd.DataFrame, HardwareProfile], Terms]


def _reads(gpu: Roofline, size: Floats) -> Term:
    """Weights or KV cache from the GPU's memory."""
    sheet = gpu.hardware.datasheet
    return Term(
        gpu.weights_ns(size), size, sheet.memory_bandwidth.value, sheet.bandwidth_fraction.value
    )


def _moves(gpu: Roofline, size: Floats) -> Term:
    """Activations through the GPU's memory."""
    sheet = gpu.hardware.datasheet
    fraction = sheet.activation_bandwidth_fraction.value
    return Term(gpu.activations_ns(size), size, sheet.memory_bandwidth.value, fraction)


def _at(size: Floats, rate: Rate, fraction: float = 1.0) -> Term:
    """``size`` bytes at a share of a ``rate``."""
    return Term(np.asarray(size * NS / (rate * fraction)), size, rate, fraction)


def experts(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    """Grouped experts, as the simulator's datasheet price."""
    shapes, gpu = expert_shapes(table, profile), Roofline(profile)
    work = expert_work(shapes, TRITON)
    elements = shapes.hidden * shapes.inter * np.where(shapes.gated, 3, 2)
    rows = work.row_tiles * work.tiles.rows + gpu.half_rows
    rate = shapes.peak * gpu.compute_fraction
    time, operations = rows * 2.0 * elements * (NS / rate), rows * 2.0 * elements
    first = shapes.inter * np.where(shapes.gated, 2, 1)
    moved = 2 * (2 * shapes.hidden + first + shapes.inter) * ACTIVATION_BYTES
    return Terms(
        STARTS * gpu.start_ns,
        _reads(gpu, shapes.touched_bytes),
        Term(time, operations, shapes.peak, gpu.compute_fraction),
        _moves(gpu, shapes.total * moved),
    )


def _products(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    m, n, k = (number(table, name) for name in ("m", "n", "k"))
    return _product(table, profile, m, n * k, m * (n + k) * ACTIVATION_BYTES)


def _product(
    table: pd.DataFrame, profile: HardwareProfile, rows: Floats, size: Floats, moved: Floats,
    starts: int = 1,
) -> Terms:  # fmt: skip
    gpu, dtypes = Roofline(profile), table["dtype"].to_numpy(object)
    peak = np.array([profile.peak(dtype) for dtype in dtypes])
    width = np.array([BYTES[dtype] for dtype in dtypes])
    work = (padded(rows, row_tile(rows)) + gpu.half_rows) * 2.0 * size
    time = work * NS / (peak * gpu.compute_fraction)
    return Terms(
        starts * gpu.start_ns,
        _reads(gpu, size * width),
        Term(time, work, peak, gpu.compute_fraction),
        _moves(gpu, moved),
    )


def _attention(prefill: bool) -> Price:
    def price(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
        gpu = Roofline(profile)
        names = ("batch", "context", "heads", "kv_heads", "head_dim")
        batch, context, heads, kv_heads, head = (number(table, name) for name in names)
        width = np.array([BYTES[dtype] for dtype in table["dtype"]])
        cache = batch * context * kv_heads * head * 2 * width
        queries = batch * (context * (context + 1) / 2 if prefill else context)
        operations = queries * heads * head * 4
        time = gpu.operations_ns(operations, "bf16")
        rows = batch * context if prefill else batch
        return Terms(
            gpu.start_ns,
            _reads(gpu, cache),
            Term(time, operations, profile.peak("bf16"), gpu.compute_fraction),
            _moves(gpu, rows * heads * head * 2 * ACTIVATION_BYTES),
        )

    return price


def _copy(direction: str) -> Price:
    def price(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
        size, pinned = number(table, "bytes"), flag(table, "pinned")
        kinds = getattr(profile.datasheet.copies, direction)
        latency = np.where(pinned, kinds.pinned.latency_ns, kinds.pageable.latency_ns)
        rate = np.where(pinned, kinds.pinned.bytes_per_second, kinds.pageable.bytes_per_second)
        return Terms(latency, Term(np.ceil(size * NS / rate), size, rate))

    return price


def _peer(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    peers = profile.datasheet.peers
    return Terms(peers.latency.value, _at(number(table, "bytes"), peers.bandwidth.value))


def _collective(rounds: int) -> Price:
    def price(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
        peers, gpus = profile.datasheet.peers, number(table, "gpus")
        moved = rounds * number(table, "bytes") * (gpus - 1) / gpus
        latency = np.where(gpus > 1, peers.latency.value, 0.0)
        return Terms(latency, _at(moved, peers.all_to_all_bytes_per_second))

    return price


def _cpu_expert(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    host = profile.host
    matrices = np.where(flag(table, "gated"), 3, 2)
    width = np.array([BYTES[dtype] for dtype in table["dtype"]])
    size = number(table, "hidden") * number(table, "inter") * matrices * width
    return Terms(0.0, _at(size, host.memory_bandwidth.value, host.memory_fraction.value))


def _launch(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    return Terms(np.full(len(table), Roofline(profile).start_ns))


def _gate(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    tokens, hidden, experts = (number(table, name) for name in ("tokens", "hidden", "experts"))
    moved = tokens * (hidden * ACTIVATION_BYTES + LOGIT_BYTES * experts)
    return _product(table, profile, tokens, hidden * experts, moved, starts=2)


def _permute(table: pd.DataFrame, profile: HardwareProfile) -> Terms:
    rows = number(table, "tokens") * number(table, "top_k", 1.0)
    moved = rows * number(table, "hidden") * 2 * ACTIVATION_BYTES
    gpu = Roofline(profile)
    return Terms(gpu.start_ns, moves=_moves(gpu, moved))


PRICES: dict[str, Price] = {
    "moe": experts,
    "gemm": _products,
    "attention_prefill": _attention(prefill=True),
    "attention_decode": _attention(prefill=False),
    "copy_h2d": _copy("h2d"),
    "copy_d2h": _copy("d2h"),
    "copy_p2p": _peer,
    "all_reduce": _collective(2),
    "all_to_all": _collective(1),
    "cpu_expert": _cpu_expert,
    "launch": _launch,
    "gate": _gate,
    "permute": _permute,
}
"""What the price of each op is made of."""
