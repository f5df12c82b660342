"""What every kind of arrivals keeps (docs/serving.md)."""

from __future__ import annotations

import numpy as np

from moesim.workload.arrivals.base import Arrivals, Arrived
from moesim.workload.serving.state import NEVER


def come_in_order(arrivals: Arrivals, count: int, seed: int = 0) -> Arrived:
    """At most ``count`` requests, ascending, from instant 0 on; one that follows an end, of another
    or of any, has no instant; lengths are 1 or more. Returns them.
    """
    name = type(arrivals).__name__
    arrived = arrivals.arrive(count, np.random.default_rng(seed), ())
    instants, number = arrived.arrival_ns, len(arrived.arrival_ns)
    assert 1 <= number <= count, f"{name}: {number} requests of {count}"
    assert instants.dtype == np.int64, f"{name}: instants are {instants.dtype}"
    timed = instants[instants != NEVER]
    assert len(timed), f"{name}: no request has an instant"
    assert (timed >= 0).all(), f"{name}: instants before the start"
    assert (np.diff(timed) >= 0).all(), f"{name}: instants do not ascend"
    follows = np.full(number, -1) if arrived.follows is None else arrived.follows
    waits = (follows >= 0) | (arrivals.concurrency is not None)
    assert waits[instants == NEVER].all(), f"{name}: a request never comes"
    for lengths in (arrived.input_tokens, arrived.output_tokens):
        assert lengths is None or (lengths >= 1).all(), f"{name}: a length below 1"
    return arrived


def are_the_same_again(arrivals: Arrivals, count: int, seed: int = 0) -> None:
    """The same stream gives the same instants, and fewer requests are the first of more, unless
    their number scales them.
    """
    one, other = (come_in_order(arrivals, count, seed).arrival_ns for _ in range(2))
    assert (one == other).all(), f"{type(arrivals).__name__}: drawn from another stream"
