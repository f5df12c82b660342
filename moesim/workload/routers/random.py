"""A drawn replica."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.workload.routers.base import Router, Seen


class Drawn(Router):
    """A drawn replica."""

    kind: Literal["random"] = "random"

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``."""
        return int(stream.integers(len(seen.waiting)))
