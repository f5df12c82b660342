"""The miss curve of a policy, by the fastest exact way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.order import costs_ahead, order_of
from moesim.memory.curves.recency import lru_misses
from moesim.memory.curves.simulated import misses_by_age, misses_by_cost
from moesim.memory.curves.stack import stack_misses
from moesim.memory.policies.fifo import Fifo
from moesim.memory.policies.lifo import Lifo
from moesim.memory.policies.lru import Lru
from moesim.memory.policy import CachePolicy
from moesim.memory.slots.residency import Given, LayerCache, next_uses

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MissCurve:
    """Misses int64[experts] with 1, 2, ... slots, from empty slots.

    ``one_pass`` bool[experts]: counted for all those sizes in one pass, else simulated.
    """

    misses: Ints
    one_pass: NDArray[np.bool_]


def miss_curve(
    policy: CachePolicy,
    active: ActiveExperts,
    usage: Ints,
    *,
    weights: Ints | None = None,
    draws: Floats | None = None,
) -> MissCurve:
    """The misses of every number of slots of a layer with these ``active``, in ``id`` order.

    Equal to ``LayerCache.decide`` with as many slots. ``usage`` int64[experts] and ``draws`` as
    there, ``weights`` int64[active experts].
    """
    sizes = np.arange(1, len(usage) + 1)
    if type(policy) is Lru:
        return MissCurve(lru_misses(active, len(usage)), sizes > 0)
    if (order := order_of(policy, usage)) is not None:
        least = max(1, int(np.diff(active.offsets).max(initial=1)))
        after = np.empty(0, np.int64)
        if policy.looks_ahead:
            next_use, _ = next_uses(active, len(usage))
            after = costs_ahead(next_use, active.experts, len(usage))
        few = misses_by_cost(active, order, after, least - 1)
        many = stack_misses(active, order, after, least)
        return MissCurve(np.concatenate((few, many)), sizes >= least)
    if type(policy) in (Fifo, Lifo):
        misses = misses_by_age(active, len(usage), newest=type(policy) is Lifo)
    else:
        misses = _decided(policy, active, usage, weights, draws)
    return MissCurve(misses, sizes < 0)


def _decided(
    policy: CachePolicy,
    active: ActiveExperts,
    usage: Ints,
    weights: Ints | None,
    draws: Floats | None,
) -> Ints:
    """Misses int64[experts] by the decisions themselves, size by size."""
    after = next_uses(active, len(usage))[0] if policy.looks_ahead else None
    misses = np.zeros(len(usage), np.int64)
    for at in range(len(usage)):
        cache = LayerCache(
            policy, at + 1, usage, serial=False, resident_first=False, given=Given(draws=draws)
        )
        misses[at] = np.count_nonzero(~cache.decide(active, after, weights).hit)
    return misses
