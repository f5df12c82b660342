"""Expected counts of the recorded choices under given factors, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT
from moesim.trace.synthesis.drawing import multiply

_IDS = types.Array(types.uint16, 3, "C", readonly=True)
_ROWS = types.float64[:, ::1]
_PAIRS = types.float64[:, :, ::1]


@njit(types.void(_ROWS, types.int64, types.float64[::1]), cache=True)
def _add(target: Any, row: int, values: Any) -> None:
    for place in range(len(values)):
        target[row, place] += values[place]


@njit(
    types.float64(
        types.uint16[::1], types.float64[::1], types.float64[::1], types.float64[::1], _ROWS, _ROWS
    ),
    cache=True,
)
def _choices(chosen: Any, weights: Any, share: Any, summed: Any, within: Any, pairs: Any) -> float:
    """Add the probabilities of each choice of a token to ``summed`` [experts] and to ``pairs`` with
    the choices before it; the summed logarithm of the probabilities of what was chosen.
    """
    likelihood = 0.0
    for slot in range(len(chosen)):
        if chosen[slot] == NO_EXPERT:
            break
        total = weights.sum()
        share[:] = weights / total
        summed += share
        for before in range(slot):
            _add(pairs, chosen[before], share)
        likelihood += np.log(max(share[chosen[slot]], 1e-300))
        weights[chosen[slot]] = 0
        multiply(weights, within[chosen[slot]])
    return likelihood


@njit(
    types.float64(
        _IDS, _PAIRS, types.int64[::1], _ROWS, types.int64[::1], _PAIRS, _PAIRS,
        _ROWS, _PAIRS, _ROWS, _PAIRS, _PAIRS,
    ),
    cache=True,
)  # fmt: skip
def add_expected(
    ids: Any, base: Any, stage: Any, by_age: Any, bin_of_age: Any, between: Any, within: Any,
    uses: Any, staged: Any, reuses: Any, pairs_between: Any, pairs_within: Any,
) -> float:  # fmt: skip
    """Add what a request's recorded past makes expect of each of its choices; the log-likelihood.

    ``ids`` [tokens, layers, k], drawn as ``draw_experts`` draws with ``base`` [stages, layers,
    experts], ``by_age`` [layers, age bins + 1] and the pairs' factors [layers, experts, experts].
    Adds to ``uses`` [layers, experts], ``staged`` [stages, layers, experts], ``reuses`` [layers,
    age bins + 1] and the pairs, as ``measure`` counts what was chosen.
    """
    tokens, layers, k = ids.shape
    experts, unused, oldest = base.shape[2], by_age.shape[1] - 1, len(bin_of_age) - 1
    last, place = np.empty(experts, np.int64), np.empty(experts, np.int64)
    weights, share, summed = np.empty(experts), np.empty(experts), np.empty(experts)
    likelihood = 0.0
    for layer in range(layers):
        last[:] = -1
        for token in range(tokens):
            for expert in range(experts):
                age = min(token - last[expert], oldest)
                place[expert] = unused if last[expert] < 0 else bin_of_age[age]
                weights[expert] = base[stage[token], layer, expert] * by_age[layer, place[expert]]
            for slot in range(k):
                if layer > 0 and ids[token, layer - 1, slot] != NO_EXPERT:
                    multiply(weights, between[layer, ids[token, layer - 1, slot]])
            summed[:] = 0
            chosen = ids[token, layer].copy()
            likelihood += _choices(
                chosen, weights, share, summed, within[layer], pairs_within[layer]
            )
            for expert in range(experts):
                uses[layer, expert] += summed[expert]
                staged[stage[token], layer, expert] += summed[expert]
                reuses[layer, place[expert]] += summed[expert]
            for slot in range(k):
                if layer > 0 and ids[token, layer - 1, slot] != NO_EXPERT:
                    _add(pairs_between[layer], ids[token, layer - 1, slot], summed)
                if chosen[slot] != NO_EXPERT:
                    last[chosen[slot]] = token
    return likelihood
