"""The datasheet's price of every op of a measurement table: rooflines and plain rates."""

from __future__ import annotations

from collections.abc import Callable

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
Price = Callable[[pd.DataFrame, HardwareProfile], Floats]


def experts(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    """Grouped experts, as the simulator's datasheet price."""
    shapes, gpu = expert_shapes(table, profile), Roofline(profile)
    work = expert_work(shapes, TRITON)
    elements = shapes.hidden * shapes.inter * np.where(shapes.gated, 3, 2)
    rows = work.row_tiles * work.tiles.rows + gpu.half_rows
    rate = shapes.peak * gpu.compute_fraction
    time = np.maximum(gpu.weights_ns(shapes.touched_bytes), rows * 2.0 * elements * (NS / rate))
    first = shapes.inter * np.where(shapes.gated, 2, 1)
    moved = 2 * (2 * shapes.hidden + first + shapes.inter) * ACTIVATION_BYTES
    return STARTS * gpu.start_ns + time + gpu.activations_ns(shapes.total * moved)


def _products(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    gpu = Roofline(profile)
    m, n, k = (number(table, name) for name in ("m", "n", "k"))
    return _product(table, profile, m, n * k) + gpu.activations_ns(m * (n + k) * ACTIVATION_BYTES)


def _product(table: pd.DataFrame, profile: HardwareProfile, rows: Floats, size: Floats) -> Floats:
    gpu, dtypes = Roofline(profile), table["dtype"].to_numpy(object)
    peak = np.array([profile.peak(dtype) for dtype in dtypes]) * gpu.compute_fraction
    width = np.array([BYTES[dtype] for dtype in dtypes])
    work = (padded(rows, row_tile(rows)) + gpu.half_rows) * 2.0 * size
    return gpu.start_ns + np.maximum(gpu.weights_ns(size * width), work * NS / peak)


def _attention(prefill: bool) -> Price:
    def price(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
        gpu = Roofline(profile)
        names = ("batch", "context", "heads", "kv_heads", "head_dim")
        batch, context, heads, kv_heads, head = (number(table, name) for name in names)
        width = np.array([BYTES[dtype] for dtype in table["dtype"]])
        cache = batch * context * kv_heads * head * 2 * width
        queries = batch * (context * (context + 1) / 2 if prefill else context)
        work = gpu.operations_ns(queries * heads * head * 4, "bf16")
        rows = batch * context if prefill else batch
        moved = gpu.activations_ns(rows * heads * head * 2 * ACTIVATION_BYTES)
        return gpu.start_ns + np.maximum(gpu.weights_ns(cache), work) + moved

    return price


def _copy(direction: str) -> Price:
    def price(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
        size, pinned = number(table, "bytes"), flag(table, "pinned")
        kinds = getattr(profile.datasheet.copies, direction)
        latency = np.where(pinned, kinds.pinned.latency_ns, kinds.pageable.latency_ns)
        rate = np.where(pinned, kinds.pinned.bytes_per_second, kinds.pageable.bytes_per_second)
        return np.asarray(latency + np.ceil(size * NS / rate), np.float64)

    return price


def _peer(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    peers = profile.datasheet.peers
    return peers.latency.value + number(table, "bytes") * NS / peers.bandwidth.value


def _collective(rounds: int) -> Price:
    def price(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
        peers, gpus = profile.datasheet.peers, number(table, "gpus")
        moved = rounds * number(table, "bytes") * (gpus - 1) / gpus
        time = peers.latency.value + moved * NS / peers.all_to_all_bytes_per_second
        return np.where(gpus > 1, time, 0.0)

    return price


def _cpu_expert(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    host = profile.host
    matrices = np.where(flag(table, "gated"), 3, 2)
    width = np.array([BYTES[dtype] for dtype in table["dtype"]])
    size = number(table, "hidden") * number(table, "inter") * matrices * width
    rate = host.memory_bandwidth.value * host.memory_fraction.value
    return np.asarray(size * NS / rate, np.float64)


def _launch(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    return np.full(len(table), Roofline(profile).start_ns)


def _gate(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    tokens, hidden, experts = (number(table, name) for name in ("tokens", "hidden", "experts"))
    gpu = Roofline(profile)
    moved = tokens * (hidden * ACTIVATION_BYTES + LOGIT_BYTES * experts)
    product = _product(table, profile, tokens, hidden * experts)
    return product + gpu.start_ns + gpu.activations_ns(moved)


def _permute(table: pd.DataFrame, profile: HardwareProfile) -> Floats:
    rows = number(table, "tokens") * number(table, "top_k", 1.0)
    moved = rows * number(table, "hidden") * 2 * ACTIVATION_BYTES
    gpu = Roofline(profile)
    return gpu.start_ns + gpu.activations_ns(moved)


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
"""The price of each op in nanoseconds."""
