"""The experts of a request's tokens, drawn one after another, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.runtime.compiled import njit, types

_FLOATS = types.float64[::1]
_ROWS = types.float64[:, ::1]
_PAIRS = types.float64[:, :, ::1]
_NUMBERS = types.int64[::1]
_CHOSEN = types.uint16[::1]


@njit(types.void(_FLOATS, _FLOATS), cache=True)
def multiply(weights: Any, factors: Any) -> None:
    """Multiply ``weights`` [experts] by ``factors``, in place."""
    for expert in range(len(weights)):
        weights[expert] *= factors[expert]


@njit(types.int64(_FLOATS, types.float64), cache=True)
def _pick(weights: Any, draw: float) -> int:
    """The expert at the share ``draw`` of the summed weights; -1 if they are all 0."""
    total = 0.0
    for expert in range(len(weights)):
        total += weights[expert]
    target, found = draw * total, -1
    for expert in range(len(weights)):
        if weights[expert] > 0:
            found = expert
            target -= weights[expert]
            if target < 0:
                break
    return found


@njit(types.int64(_CHOSEN, _CHOSEN, _FLOATS, types.float64, _FLOATS), cache=True)
def _keep(chosen: Any, before: Any, draws: Any, stay: float, weights: Any) -> int:
    """Choose each of the experts ``before`` with probability ``stay``; how many are chosen."""
    kept, slots = 0, len(chosen)
    for slot in range(slots):
        if draws[slots + slot] < stay:
            chosen[kept] = before[slot]
            weights[before[slot]] = 0
            kept += 1
    return kept


@njit(types.void(_CHOSEN, types.int64, _FLOATS, _FLOATS, _FLOATS, _ROWS, types.boolean), cache=True)
def _choose(
    chosen: Any, kept: int, draws: Any, weights: Any, base: Any, within: Any, paired: bool
) -> None:
    """Fill ``chosen`` from the entry ``kept`` on; by ``base`` where all weights are 0."""
    for slot in range(len(chosen)):
        if slot >= kept:
            expert = _pick(weights, draws[slot])
            if expert < 0:
                for other in range(len(base)):  # copied as an array it compiles for seconds more
                    weights[other] = base[other]
                for other in range(slot):
                    weights[chosen[other]] = 0
                expert = _pick(weights, draws[slot])
            chosen[slot] = expert
            weights[expert] = 0
        if paired:
            multiply(weights, within[chosen[slot]])


@njit(
    types.void(_PAIRS, _NUMBERS, _ROWS, _FLOATS, _PAIRS, _PAIRS, _PAIRS, types.uint16[:, :, ::1]),
    cache=True,
)
def draw_experts(
    base: Any, stage: Any, by_age: Any, stay: Any, between: Any, within: Any, draws: Any, ids: Any
) -> None:
    """Fill ``ids`` [tokens, layers, k] of one request.

    The k choices are drawn one after another without replacement, with probabilities in
    proportion to base[stage[token], layer, expert] x by_age[layer, age] x between[layer, experts
    of the layer before] x within[layer, experts chosen so far] (the Plackett-Luce model).
    ``between`` and ``within`` may have no layers. ``stay`` is the probability of each of the
    previous token's experts to be chosen before that. ``draws`` [tokens, layers, 2 k], uniform in
    0 .. 1. Where all weights are 0, a choice goes by ``base`` alone, which has k positive weights
    in every layer.
    """
    tokens, layers, k = ids.shape
    experts, most_age = base.shape[2], by_age.shape[1] - 1
    last, weights = np.full((layers, experts), -1), np.empty(experts)
    for token in range(tokens):
        for layer in range(layers):
            popularity = base[stage[token], layer]
            for expert in range(experts):
                age = 0 if last[layer, expert] < 0 else min(token - last[layer, expert], most_age)
                weights[expert] = popularity[expert] * by_age[layer, age]
            if layer > 0 and len(between):
                for slot in range(k):
                    multiply(weights, between[layer, ids[token, layer - 1, slot]])
            kept, paired = 0, len(within) > 0
            if token > 0 and stay[layer] > 0:
                before = ids[token - 1, layer]
                kept = _keep(ids[token, layer], before, draws[token, layer], stay[layer], weights)
            pairs = within[layer] if paired else by_age
            _choose(
                ids[token, layer], kept, draws[token, layer], weights, popularity, pairs, paired
            )
            for slot in range(k):
                last[layer, ids[token, layer, slot]] = token


@njit(types.void(_ROWS, _ROWS, types.int64, _FLOATS, _NUMBERS), cache=True)
def _pick_by_layer(weights: Any, draws: Any, slot: int, left: Any, found: Any) -> None:
    """As ``_pick`` of each layer by its draw of ``slot``, into ``found`` [layers]: the sums of one
    layer wait for one another, those of others do not. ``left`` [layers] is room for them.
    """
    experts, layers = weights.shape
    for layer in range(layers):
        left[layer], found[layer] = 0.0, -1
    for expert in range(experts):
        for layer in range(layers):
            left[layer] += weights[expert, layer]
    for layer in range(layers):
        left[layer] = draws[layer, slot] * left[layer]
    for expert in range(experts):
        for layer in range(layers):
            weight, on = weights[expert, layer], not left[layer] < 0
            found[layer] = expert if on and weight > 0 else found[layer]
            left[layer] = left[layer] - weight if on else left[layer]


@njit(types.void(_PAIRS, _NUMBERS, _FLOATS, _PAIRS, types.uint16[:, :, ::1]), cache=True)
def draw_apart(base: Any, stage: Any, stay: Any, draws: Any, ids: Any) -> None:
    """As ``draw_experts`` where nothing goes by age or in pairs, and no layer waits for another:
    the same choices. ``base`` is [stages, experts, layers].
    """
    tokens, layers, k = ids.shape
    weights, kept = np.empty(base.shape[1:]), np.zeros(layers, np.int64)
    left, found = np.empty(layers), np.empty(layers, np.int64)
    for token in range(tokens):
        for expert in range(len(weights)):
            for layer in range(layers):
                weights[expert, layer] = base[stage[token], expert, layer]
        for layer in range(layers):
            kept[layer] = 0
            for slot in range(k if token > 0 else 0):
                if draws[token, layer, k + slot] < stay[layer]:
                    expert = ids[token - 1, layer, slot]
                    ids[token, layer, kept[layer]] = expert
                    weights[expert, layer] = 0
                    kept[layer] += 1
        for slot in range(k):
            _pick_by_layer(weights, draws[token], slot, left, found)
            for layer in range(layers):
                if slot >= kept[layer]:
                    ids[token, layer, slot] = found[layer]
                    weights[found[layer], layer] = 0
