"""What policies evict first, where that is the same for all sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.memory.policies.lfu import Lfu
from moesim.memory.policies.min import Min
from moesim.memory.policies.static import Static
from moesim.memory.policy import NEVER, CachePolicy
from moesim.memory.residency import Needs, next_uses

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Order:
    """What a policy evicts first, whatever the size: the highest cost; no two are equal.

    ``cost`` int64[experts] at the start. A turn takes ``fall`` from the cost of its expert, or
    gives it the turn's own of ``after`` int64[needs], where that is not empty.
    """

    cost: Ints
    fall: int
    after: Ints


def order_of(policy: CachePolicy, needs: Needs, usage: Ints) -> Order | None:
    """The order of ``policy``; None where it depends on the size. ``usage`` as in ``LayerCache``.

    Of equals the lowest id costs most, as it is evicted first.
    """
    count, none = len(usage), np.empty(0, np.int64)
    ids = np.arange(count)
    if type(policy) is Lfu:
        return Order(-ids, count, none)
    if type(policy) is Static:
        return Order(-usage * count - ids, 0, none)
    if type(policy) is Min:
        after, _ = next_uses(needs, count)
        last = np.flatnonzero(after == NEVER)
        after[last] += count - needs.experts[last]
        return Order(np.zeros(count, np.int64), 0, after)
    return None
