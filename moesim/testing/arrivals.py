"""What every kind of arrivals keeps (docs/serving.md)."""

from __future__ import annotations

import numpy as np

from moesim.workload.arrivals.base import Arrivals, Arrived, fault_of_arrived


def come_in_order(arrivals: Arrivals, count: int, seed: int = 0) -> Arrived:
    """At most ``count`` requests, ascending, from instant 0 on; one that follows an end, of another
    or of any, has no instant; lengths are 1 or more. Returns them.
    """
    name = type(arrivals).__name__
    arrived = arrivals.arrive(count, np.random.default_rng(seed), ())
    fault = fault_of_arrived(arrivals, arrived, count)
    assert not fault, f"{name} {fault}"
    return arrived


def are_the_same_again(arrivals: Arrivals, count: int, seed: int = 0) -> None:
    """The same stream gives the same instants and lengths."""
    one, other = (come_in_order(arrivals, count, seed) for _ in range(2))
    for column in ("arrival_ns", "input_tokens", "output_tokens"):
        same = np.array_equal(getattr(one, column), getattr(other, column))
        assert same, f"{type(arrivals).__name__}: {column} drawn from another stream"
