"""Misses of a least-recently-used cache by its number of slots, batch 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT, RoutingTrace


def lru_miss_ratios(trace: RoutingTrace) -> NDArray[np.float64]:
    """[L, E + 1] share of a layer's expert uses that miss in an LRU cache of 0 .. E slots.

    Tokens run one after another in file order, and the cache outlives requests. A use misses where
    as many experts as slots, or more, were used more recently when the token began; a token's
    experts run in ascending id. First uses miss at any size. From Mattson's stack distances (1970).
    NaN for a layer without uses.
    """
    layers, experts = trace.moe_layers, trace.experts
    distances = np.zeros((layers, experts + 1), dtype=np.int64)
    _count_distances(trace.expert_ids, distances)
    uses = distances.sum(axis=1)
    deeper = uses[:, None] - np.concatenate(
        (np.zeros((layers, 1), dtype=np.int64), distances[:, :-1].cumsum(axis=1)), axis=1
    )
    return np.where(uses[:, None] > 0, deeper / np.maximum(uses, 1)[:, None], np.nan)


@njit(types.int64(types.int64[::1], types.int64, types.int64), cache=True)
def _to_front(stack: Any, size: int, expert: int) -> int:
    """Put ``expert`` on top of the first ``size`` entries; the number of entries afterwards."""
    distance = 0
    while distance < size and stack[distance] != expert:
        distance += 1
    for place in range(distance, 0, -1):
        stack[place] = stack[place - 1]
    stack[0] = expert
    return max(size, distance + 1)


@njit(types.void(types.Array(types.uint16, 3, "C", readonly=True), types.int64[:, ::1]), cache=True)
def _count_distances(ids: Any, distances: Any) -> None:
    """Count the stack distance of every use [tokens, layers, k]; of a first use it is E."""
    tokens, layers, k = ids.shape
    experts = distances.shape[1] - 1
    stack, now = np.empty(experts, np.int64), np.empty(k, np.int64)
    for layer in range(layers):
        size = 0
        for token in range(tokens):
            used = 0
            for slot in range(k):
                if ids[token, layer, slot] != NO_EXPERT:
                    now[used] = ids[token, layer, slot]
                    used += 1
            now[:used].sort()
            for index in range(used):
                distance = 0
                while distance < size and stack[distance] != now[index]:
                    distance += 1
                distances[layer, distance if distance < size else experts] += 1
            for index in range(used):
                size = _to_front(stack, size, now[index])
