"""Of two drawn replicas the one with fewer requests."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.workload.routers.base import Router, Seen, least


class PowerOfTwo(Router):
    """Of two drawn replicas the one with fewer requests."""

    kind: Literal["power_of_two"] = "power_of_two"

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``."""
        two = stream.permutation(len(seen.waiting))[:2]
        return int(two[least(seen.outstanding[two])])
