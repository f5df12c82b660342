"""What every kind of lengths keeps (docs/serving.md)."""

from __future__ import annotations

import numpy as np

from moesim.workload.arrivals.base import Arrived
from moesim.workload.lengths.base import Lengths, Pair, fault_of_lengths


def are_one_or_more(lengths: Lengths, arrived: Arrived, bound: Pair | None, seed: int = 0) -> Pair:
    """A whole number of tokens for every prompt and answer, at least 1; the same from the same
    stream. ``bound``: as for ``Lengths.lengths``. Returns them.
    """
    name, count = type(lengths).__name__, len(arrived.arrival_ns)
    pair, again = (lengths.lengths(arrived, np.random.default_rng(seed), bound) for _ in range(2))
    fault = fault_of_lengths(pair, count)
    assert not fault, f"{name} {fault}"
    for one, other in zip(pair, again, strict=True):
        assert (one == other).all(), f"{name}: drawn from another stream"
    return pair
