"""The misses of each size by simulation, of all sizes side by side; equal to ``decide``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.order import Order
from moesim.runtime.compiled import njit

Ints = NDArray[np.int64]

OTHER, DONE, TO_COME = range(3)
"""Not needed in this step, needed with its activation over, or to come: the order of the rules."""


@njit(cache=True)
def _costliest(slots: Any, size: int, cost: Any, part: Any) -> Any:
    """Where the victim stands: rule (a), else (b), else (c)."""
    found, kind, most = 0, TO_COME, -1
    for at in range(size + 1):
        e = slots[size, at]
        if part[e] < kind or (part[e] == kind and (e if kind == TO_COME else cost[e]) > most):
            found, kind = at, part[e]
            most = e if kind == TO_COME else cost[e]
    return found


@njit(cache=True)
def _oldest(slots: Any, size: int, newest: bool, part: Any) -> Any:
    """The same where slots are in the order of loading, from the end if ``newest``."""
    found, kind, last = 0, TO_COME, -1
    for i in range(size + 1):
        at = size - i if newest else i
        e = slots[size, at]
        if part[e] < kind or (part[e] == kind == TO_COME and e > last):
            found, kind, last = at, part[e], e
            if kind == OTHER:
                break
    return found


@njit(cache=True)
def _replace(slots: Any, size: int, at: int, expert: int, by_age: bool) -> None:
    """Put ``expert`` in the place of a victim; behind all others where age is their order."""
    if by_age:
        for later in range(at, size):
            slots[size, later] = slots[size, later + 1]
        at = size
    slots[size, at] = expert


@njit(
    "void(int64[::1], int64[::1], int64[::1], int64, int64[::1], boolean, boolean, int64[::1])",
    cache=True,
)  # fmt: skip
def _count(
    offsets: Any, experts: Any, after: Any, fall: int, cost: Any, by_age: bool, newest: bool,
    misses: Any,
) -> None:  # fmt: skip
    count, sizes = len(cost), len(misses)
    resident = np.zeros((count, sizes), np.bool_)
    slots, used = np.empty((sizes, sizes), np.int64), np.zeros(sizes, np.int64)
    part = np.zeros(count, np.int8)
    for s in range(len(offsets) - 1):
        for i in range(offsets[s], offsets[s + 1]):
            part[experts[i]] = TO_COME
        for i in range(offsets[s], offsets[s + 1]):
            e = experts[i]
            for size in range(sizes):
                if resident[e, size]:
                    continue
                misses[size] += 1
                resident[e, size] = True
                if used[size] <= size:
                    slots[size, used[size]] = e
                    used[size] += 1
                    continue
                if by_age:
                    at = _oldest(slots, size, newest, part)
                else:
                    at = _costliest(slots, size, cost, part)
                resident[slots[size, at], size] = False
                _replace(slots, size, at, e, by_age)
            cost[e] = after[i] if len(after) > 0 else cost[e] - fall
            part[e] = DONE
        for i in range(offsets[s], offsets[s + 1]):
            part[experts[i]] = OTHER


def misses_by_cost(active: ActiveExperts, order: Order, after: Ints, sizes: int) -> Ints:
    """Misses int64[sizes] with 1, 2, ... slots, from empty slots, under a policy's ``order``;
    ``after`` int64[active experts]: costs that activations give, or empty.
    """
    misses = np.zeros(sizes, np.int64)
    cost = order.cost.copy()
    _count(active.offsets, active.experts, after, order.fall, cost, False, False, misses)
    return misses


def misses_by_age(active: ActiveExperts, experts: int, *, newest: bool) -> Ints:
    """Misses int64[experts] with 1, 2, ... slots, from empty slots, where the ``newest`` or the
    oldest load is evicted first.
    """
    misses, none = np.zeros(experts, np.int64), np.empty(0, np.int64)
    cost = np.zeros(experts, np.int64)
    _count(active.offsets, active.experts, none, 0, cost, True, newest, misses)
    return misses
