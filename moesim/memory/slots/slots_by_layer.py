"""Slots by layer: greedy on each layer's miss curve, within the bytes of equal slots."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from moesim.memory.activations import ActiveExperts, Ints
from moesim.memory.policies.lru import Lru
from moesim.memory.slots.residency import LayerCache

Floats = NDArray[np.float64]


def lru_curve(
    pieces: Sequence[ActiveExperts], experts: int, *, resident_first: bool = False
) -> Ints:
    """Misses int64[experts] of a layer with 1, 2, ... slots under LRU, from empty slots.

    ``pieces``: what the layer needs, in order.
    """
    usage = np.zeros(experts, np.int64)
    curve = np.zeros(experts, np.int64)
    for slots in range(1, experts + 1):
        cache = LayerCache(Lru(), slots, usage, serial=False, resident_first=resident_first)
        curve[slots - 1] = sum(np.count_nonzero(~cache.decide(one).hit) for one in pieces)
    return curve


def share_out(curves: Sequence[Ints], sizes: Sequence[int], slots: int) -> Ints:
    """Slots int64[layers]: at least 1, at most the curve's length, in no more bytes than ``slots``
    in every layer.

    ``curves``: misses of each layer with 1, 2, ... slots; ``sizes``: bytes of its experts. The
    layer where one more slot saves most misses gets it; of equals the one with fewest slots, then
    the first. A miss costs an expert's bytes and so does a slot, so sizes cancel out of what a slot
    saves for its bytes. Equal slots are kept where the curves promise no fewer bytes copied.
    """
    gains = [_gains(curve) for curve in curves]
    shared = np.ones(len(curves), np.int64)
    left = (slots - 1) * sum(sizes)
    queue = [(-gain[0], 1, layer) for layer, gain in enumerate(gains) if len(gain)]
    heapify(queue)
    while queue:
        _, have, layer = heappop(queue)
        if sizes[layer] > left:
            continue
        left -= sizes[layer]
        shared[layer] = have + 1
        if have < len(gains[layer]):
            heappush(queue, (-gains[layer][have], have + 1, layer))
    equal = np.full(len(curves), slots, np.int64)
    return shared if _copied(curves, sizes, shared) < _copied(curves, sizes, equal) else equal


def _gains(curve: Ints) -> Floats:
    """Misses that each further slot saves, along the curve's lower convex hull.

    LRU's curve has cliffs where a step's experts begin to fit; on the hull a slot before a cliff
    counts for its part of the fall (as in Talus, Beckmann and Sanchez 2015).
    """
    if len(curve) < 2:  # noqa: PLR2004 (one expert: no further slot)
        return np.empty(0)
    gains: Floats = isotonic_regression(-np.diff(curve), increasing=False).x
    return gains


def _copied(curves: Sequence[Ints], sizes: Sequence[int], slots: Ints) -> int:
    each = zip(curves, sizes, slots, strict=True)
    return sum(int(curve[have - 1]) * size for curve, size, have in each)
