"""What every router keeps (docs/serving.md)."""

from __future__ import annotations

import numpy as np

from moesim.workload.routers.base import Router, Seen, fault_of_choice


def chooses_a_replica(router: Router, seen: Seen, seed: int = 0) -> int:
    """One that there is, the same again with the same draws; what is seen stays as it is. Returns
    it.
    """
    name, kept = type(router).__name__, np.array([seen.waiting, seen.running, seen.cached])
    chosen = [router.choose(seen, np.random.default_rng(seed)) for _ in range(2)]
    fault = fault_of_choice(chosen[0], len(seen.waiting))
    assert not fault, f"{name} {fault}"
    assert chosen[0] == chosen[1], f"{name}: {chosen} of the same"
    now = np.array([seen.waiting, seen.running, seen.cached])
    assert (now == kept).all(), f"{name}: writes what it sees"
    return chosen[0]
