"""One replica after the other."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.workload.routers.base import Router, Seen


class RoundRobin(Router):
    """One replica after the other."""

    kind: Literal["round_robin"] = "round_robin"

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``."""
        del stream
        return seen.number % len(seen.waiting)
