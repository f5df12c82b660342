"""What policies evict first, where that is the same for all sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.memory.policies.lfu import Lfu
from moesim.memory.policies.min import Min
from moesim.memory.policies.static import Static
from moesim.memory.policy import NEVER, CachePolicy

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Order:
    """What a policy evicts first, whatever the size: the highest cost; no two are equal.

    ``cost`` int64[experts] at the start. An activation takes ``fall`` from the cost of its expert,
    or gives it one of its own (``costs_ahead``).
    """

    cost: Ints
    fall: int


def order_of(policy: CachePolicy, usage: Ints) -> Order | None:
    """The order of ``policy``; None where it depends on the size. ``usage`` as in ``LayerCache``.

    Of equals the lowest id costs most, as it is evicted first.
    """
    count = len(usage)
    ids = np.arange(count)
    if type(policy) is Lfu:
        return Order(-ids, count)
    if type(policy) is Static:
        return Order(-usage * count - ids, 0)
    if type(policy) is Min:
        return Order(np.zeros(count, np.int64), 0)
    return None


def costs_ahead(next_use: Ints, experts: Ints, count: int) -> Ints:
    """What activations of ``experts``, of ``count``, cost under MIN: their next use, of those that
    are never used again the lowest id most.
    """
    never = next_use == NEVER
    cost: Ints = next_use + never * (count - experts)
    return cost
