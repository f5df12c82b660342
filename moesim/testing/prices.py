"""What every machine's prices keep: more work is never cheaper.

``falls`` measures it for a profile and a model, ``never_fall`` is the contract. Prices that follow
measurements may fall a little, as these do; ``MOST`` is what is borne.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from moesim.hardware import CostModel, HardwareProfile
from moesim.hardware.prices.arrays import Ints
from moesim.model.spec import LayerSpec, ModelSpec, MoeSpec

MOST = 0.03
ROWS = np.unique(np.geomspace(1, 4200, 150).astype(np.int64))
EACH = np.unique(np.geomspace(1, 520, 60).astype(np.int64))
SIZES = np.unique(np.geomspace(1, 1 << 28, 200).astype(np.int64))
CONTEXTS = (1, 512, 8192)


def falls(profile: HardwareProfile, model: ModelSpec) -> dict[str, float]:
    """By what grows, the largest share by which a price of ``model`` on ``profile`` lies below one
    of less work; only those beyond ``MOST``.
    """
    found: dict[str, float] = {}
    for serial in (False, True):
        costs = CostModel(profile, model, serial=serial)
        for name, prices in _growing(costs, model, serial=serial):
            top = np.maximum.accumulate(prices)
            fall = float(np.max((top - prices) / np.maximum(top, 1), initial=0.0))
            found[name] = max(fall, found.get(name, 0.0))
    return {name: round(fall, 3) for name, fall in found.items() if fall > MOST}


def never_fall(
    profile: HardwareProfile, model: ModelSpec, known: Mapping[str, float] | None = None
) -> None:
    """No price falls by more than ``MOST``, or than what is ``known`` of the profile, where tokens,
    rows, experts or bytes grow.
    """
    for name, fall in falls(profile, model).items():
        allowed = (known or {}).get(name, MOST)
        what = f"{profile.name}, {model.name}: {name}: a price falls by {fall:.1%}"
        assert fall <= allowed, f"{what} where the work grows; at most {allowed:.1%}"


def _growing(costs: CostModel, model: ModelSpec, *, serial: bool) -> Iterator[tuple[str, Ints]]:
    """Prices int64[n] of more and more work, by what grows."""
    layers = {replace(layer, index=0): layer for layer in model.layers}.values()
    for layer in {layer.moe: layer for layer in layers}.values():
        if layer.moe is not None:
            for name, rows, starts in _launches(layer.moe):
                yield f"{name}{', serial' * serial}", costs.experts_ns(layer, rows, starts)
    if serial:
        return
    for layer in layers:
        yield from _of_tokens(costs, layer)
    yield "head: tokens", costs.head_ns(ROWS)
    yield "copy: bytes", np.array([costs.copy_ns(int(size), "h2d") for size in SIZES])
    for gpus in {2, min(costs.hardware.gpus, 8)} - {1}:
        yield "all-reduce: bytes", costs.all_reduce_ns(gpus, SIZES)
        even = (SIZES[:, None, None] // gpus) * (1 - np.eye(gpus, dtype=np.int64))
        yield "all-to-all: bytes", costs.all_to_all_ns(even)


def _of_tokens(costs: CostModel, layer: LayerSpec) -> Iterator[tuple[str, Ints]]:
    for name in ("dense", "gate", "shared", "permute"):
        yield f"{name}: tokens", getattr(costs, f"{name}_ns")(layer, ROWS)
    for context in CONTEXTS:
        keys = ROWS * context
        yield "attention: requests that decode", costs.attention_ns(layer, ROWS, keys, keys)
    keys = ROWS * (ROWS + 1) // 2
    yield "attention: tokens of a prompt", costs.attention_ns(layer, ROWS, keys, ROWS)


def _launches(moe: MoeSpec) -> Iterator[tuple[str, Ints, Ints]]:
    """What grows, the rows of all launches, and where each launch begins."""
    experts = moe.experts
    yield "experts: rows of one", ROWS, np.arange(len(ROWS))
    for rows in (1, 16, 256):
        number = np.unique(np.geomspace(1, experts, 60).astype(np.int64))
        starts = np.cumsum(number) - number
        yield "experts: more of them", np.full(int(number.sum()), rows), starts
    yield "experts: rows of all", np.repeat(EACH, experts), np.arange(len(EACH)) * experts
    drawn = [_spread(int(count) * moe.top_k, experts) for count in ROWS]
    starts = np.cumsum([0, *(len(rows) for rows in drawn[:-1])])
    yield "experts: tokens", np.concatenate(drawn), starts


def _spread(total: int, experts: int) -> Ints:
    """``total`` rows over as many ``experts`` as they reach, evenly."""
    reached = min(total, experts)
    return np.full(reached, total // reached) + (np.arange(reached) < total % reached)
