"""The replica with the fewest requests, waiting and running."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.workload.routers.base import Router, Seen, least


class LeastOutstanding(Router):
    """The replica with the fewest requests, waiting and running."""

    kind: Literal["least_outstanding"] = "least_outstanding"

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``."""
        del stream
        return least(seen.outstanding)
