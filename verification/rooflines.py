"""Prices against the hardware: no kernel beats the roofline, and large ones approach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from moesim.hardware import CostModel, HardwareProfile, hardware_names, load_hardware
from moesim.model import load_model, model_names
from verification.check import Measured, check

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from moesim.hardware.cost_model import Prices
    from moesim.model import ModelSpec
    from moesim.model.spec import LayerSpec

ROWS = np.array([1, 2, 4, 8, 16, 64, 256, 1024, 8192])
MANY_ROWS = 1 << 20
ROUNDING_NS = 1.0

Pair = tuple["HardwareProfile", "ModelSpec", "LayerSpec", CostModel]


def pairs(prices: Prices = "datasheet") -> Iterator[Pair]:
    """Every shipped profile with every shipped model that has experts, and its last MoE layer."""
    for model in map(load_model, model_names()):
        if model.moe_layers:
            for hardware in map(load_hardware, hardware_names()):
                yield hardware, model, model.moe_layers[-1], CostModel(hardware, model, prices)


def least_ns(
    hardware: HardwareProfile,
    layer: LayerSpec,
    rows: int,
    distinct: int,
    rate: Callable[[HardwareProfile, str], float] = HardwareProfile.peak,
) -> float:
    """The roofline of ``distinct`` experts with ``rows`` rows each, at the datasheet's ``rate``."""
    assert layer.moe is not None
    expert = layer.moe.expert
    matrices = 3 if expert.gated else 2
    work = 2 * matrices * expert.hidden_size * expert.intermediate_size * rows * distinct
    read_s = distinct * expert.bytes / hardware.datasheet.memory_bandwidth.value
    return 1e9 * max(read_s, work / rate(hardware, expert.dtype))


@check(
    "No expert kernel is faster than the roofline",
    tolerance=0,
    why="memory bandwidth and peak rate are physical limits; one nanosecond of rounding is allowed",
    unit="of the price",
)
def experts_obey_the_roofline() -> Measured:
    found = []
    for hardware, model, layer, costs in chain(pairs(), pairs("auto")):
        for distinct in (1, 4):
            for rows in ROWS.tolist():
                price = int(costs.experts_ns(layer, [rows] * distinct, [0])[0])
                least = least_ns(hardware, layer, rows, distinct) - ROUNDING_NS
                found.append((least / price - 1, f"{model.name} on {hardware.name}, {rows} rows"))
    worst, where = max(found)
    return Measured(worst, f"closest of {len(found)}: {where}")


@check(
    "Large expert products reach the profile's share of the peak rate",
    tolerance=0.02,
    why="start-ups, tiles and activation traffic vanish with the rows; 2 % is left for them",
    unit="of the limit",
)
def large_products_reach_the_peak() -> Measured:
    found = []
    for hardware, model, layer, costs in pairs():
        assert layer.moe is not None
        more, fewer = (
            int(costs.experts_ns(layer, [n], [0])[0]) for n in (2 * MANY_ROWS, MANY_ROWS)
        )
        share = hardware.datasheet.compute_fraction.value
        work_ns = least_ns(hardware, layer, MANY_ROWS, 1, HardwareProfile.rate) / share
        expert = layer.moe.expert
        elements = expert.hidden_size * 2 + expert.intermediate_size * (3 if expert.gated else 2)
        traffic_s = 1.0 * MANY_ROWS * elements * model.activation_bytes
        traffic_s /= hardware.datasheet.memory_bandwidth.value
        traffic_s /= hardware.datasheet.activation_bandwidth_fraction.value
        beyond = (more - fewer - work_ns) / work_ns
        allowed = 1e9 * 2 * traffic_s / work_ns
        found.append((max(-beyond, beyond - allowed), f"{model.name} on {hardware.name}"))
    worst, where = max(found)
    return Measured(worst, f"farthest of {len(found)}: {where}")


@check(
    "One token's 16-bit experts cost start-ups and their bytes over the share of the bandwidth",
    tolerance=0.02,
    why="a row's own traffic is below 2 % of the weights' bytes; padded tiles hide behind them",
    unit="of the limit",
)
def one_token_is_bound_by_memory() -> Measured:
    found, curve = [], []
    for hardware, model, layer, costs in pairs():
        assert layer.moe is not None
        expert, sheet = layer.moe.expert, hardware.datasheet
        if expert.dtype not in {"bf16", "fp16"} or sheet.half_efficient_rows.value:
            continue
        bandwidth = sheet.memory_bandwidth.value * sheet.bandwidth_fraction.value
        limit = 1e9 * layer.moe.top_k * expert.bytes / bandwidth
        start = int(costs.experts_ns(layer, [0], [0])[0])
        price = int(costs.experts_ns(layer, [1] * layer.moe.top_k, [0])[0]) - start
        found.append((abs(price / limit - 1), f"{model.name} on {hardware.name}"))
        if hardware.name == "h100-sxm":
            curve.append((layer.moe.top_k * expert.bytes / 1e6, price / 1e3, limit / 1e3))

    def draw(axes: Axes) -> None:
        size, measured, limit = np.array(sorted(curve)).T
        axes.loglog(size, limit, "-", label="bytes / (share of bandwidth)")
        axes.loglog(size, measured, "o", label="moesim, h100-sxm")
        axes.set_xlabel("weights of a token's experts (MB)")
        axes.set_ylabel("kernel time without start-ups (us)")
        axes.legend()

    worst, where = max(found)
    return Measured(worst, f"farthest of {len(found)}: {where}", draw)


@check(
    "More rows never cost less",
    tolerance=0,
    why="work only grows with the rows; prices are integers, so equality is exact",
    unit="ns",
)
def prices_grow_with_rows() -> Measured:
    worst, where = -np.inf, ""
    for hardware, model, layer, costs in pairs():
        prices = [int(costs.experts_ns(layer, [rows], [0])[0]) for rows in range(1, 600)]
        fall = -int(np.diff(prices).min())
        if fall > worst:
            worst, where = fall, f"{model.name} on {hardware.name}"
    return Measured(worst, f"closest: {where}")


@check(
    "A copy takes its latency and its bytes over the bandwidth, and never less than the slot",
    tolerance=0,
    why="the formula is linear and rounded up once; the slot's raw rate is a physical limit",
    unit="ns",
)
def copies_obey_the_slot() -> Measured:
    found = []
    for hardware in map(load_hardware, hardware_names()):
        costs = CostModel(hardware, load_model("gpt-oss-20b"))
        for size in (4, 4096, 13_271_040, 10**9):
            for pinned in (True, False):
                price = costs.copy_ns(size, "h2d", pinned)
                least = 1e9 * size / hardware.datasheet.pcie.value
                found.append((least - price, f"{size} bytes on {hardware.name}"))
    worst, where = max(found)
    return Measured(worst, f"closest of {len(found)}: {where}")
