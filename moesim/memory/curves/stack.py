"""Policies with one order for all sizes: the misses of all sizes in which every step's experts fit,
in one pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.order import Order
from moesim.memory.curves.recency import StackDistances, at_least
from moesim.runtime.compiled import njit

Ints = NDArray[np.int64]


@njit(cache=True, inline="always")
def _worst_first(ids: Any, count: int, wanted: int, cost: Any) -> None:
    """Put the ``wanted`` costliest of the first ``count`` ids in front, in falling order."""
    for at in range(wanted):
        worst = at
        for other in range(at + 1, count):
            if cost[ids[other]] > cost[ids[worst]]:
                worst = other
        ids[at], ids[worst] = ids[worst], ids[at]


@njit(cache=True, inline="always")
def _replace_best(carried: Any, count: int, expert: int, cost: Any) -> None:
    """Put ``expert`` in the place of the last, and in its order."""
    at = count - 1
    while at > 0 and cost[carried[at - 1]] < cost[expert]:
        carried[at] = carried[at - 1]
        at -= 1
    carried[at] = expert


@njit(cache=True, inline="always")
def _fill_least(
    experts: Any, low: int, high: int, stack: Any, place: Any, needed: Any, cost: Any,
    carried: Any, held: int, least: int,
) -> Any:  # fmt: skip
    """Make the first ``least`` of the stack what so many slots hold after the step that needs
    ``experts[low:high]``; of ``held`` before. Returns how many that are, and how many they evict,
    ``carried`` on.
    """
    others = 0
    for at in range(held):
        if not needed[stack[at]]:
            carried[others] = stack[at]
            others += 1
    evicted = max(0, high - low + others - least)
    _worst_first(carried, others, evicted, cost)
    filled = high - low + others - evicted
    for at in range(filled):
        e = experts[low + at] if at < high - low else carried[evicted + at - (high - low)]
        stack[at] = e
        place[e] = at
    return filled, evicted


@njit(cache=True, inline="always")
def _after_step(
    experts: Any, low: int, high: int, stack: Any, place: Any, needed: Any, cost: Any,
    carried: Any, seen: int, least: int,
) -> Any:  # fmt: skip
    """Bring the stack to the end of a step; returns how many experts it holds."""
    filled, evicted = _fill_least(
        experts, low, high, stack, place, needed, cost, carried, min(seen, least), least
    )
    at = filled
    while evicted > 0:
        best = carried[evicted - 1]
        if at >= seen or needed[stack[at]]:
            evicted -= 1
        elif cost[stack[at]] < cost[best]:
            at += 1
            continue
        else:
            _replace_best(carried, evicted, stack[at], cost)
        stack[at] = best
        place[best] = at
        at += 1
    return max(seen, at)


@njit(
    "int64(int64[::1], int64[::1], int64[::1], int64, int64[::1], int64, int64[::1], int64[::1],"
    " int64, uint16[::1])",
    cache=True,
)  # fmt: skip
def _follow(
    offsets: Any, experts: Any, after: Any, fall: int, cost: Any, least: int,
    stack: Any, place: Any, seen: int, distances: Any,
) -> Any:  # fmt: skip
    carried, needed = np.empty(len(cost), np.int64), np.zeros(len(cost), np.bool_)
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        deepest = 0
        for i in range(low, high):
            e = experts[i]
            needed[e] = True
            distances[i] = place[e]
            deepest = max(deepest, place[e])
        if deepest >= least:
            seen = _after_step(experts, low, high, stack, place, needed, cost, carried, seen, least)
        for i in range(low, high):
            e = experts[i]
            needed[e] = False
            cost[e] = after[i] if len(after) > 0 else cost[e] - fall
    return seen


class Stack:
    """The experts of a layer in a policy's order, told its steps in order, from empty slots.

    ``least`` slots hold what any step needs. After a step, slots hold its experts and the best of
    the others before; so slots hold what fewer slots hold and one expert more, which makes a stack
    (Mattson et al. 1970, with the stack taken at the start of each step).
    """

    def __init__(self, order: Order, least: int) -> None:
        self._fall, self._cost, self._least = order.fall, order.cost.copy(), least
        experts = len(order.cost)
        self._stack, self._place = np.empty(experts, np.int64), np.full(experts, experts, np.int64)
        self._seen = 0

    def stack_distances(self, active: ActiveExperts, after: Ints) -> StackDistances:
        """Where each active expert stands at the start of its step, uint16[active experts]: with
        ``least`` slots or more it is a hit if that is less than their number. ``after``
        int64[active experts]: costs that activations give, or empty.
        """
        distances = np.empty(len(active.experts), np.uint16)
        self._seen = _follow(
            active.offsets, active.experts, after, self._fall, self._cost, self._least,
            self._stack, self._place, self._seen, distances,
        )  # fmt: skip
        return distances


def stack_misses(active: ActiveExperts, order: Order, after: Ints, least: int) -> Ints:
    """Misses int64[experts + 1 - least] with ``least``, ... slots, from empty slots; ``after`` as
    in ``Stack``.
    """
    distances = Stack(order, least).stack_distances(active, after)
    counts = np.bincount(distances, minlength=len(order.cost) + 1)
    return at_least(counts)[least - 1 :]
