"""The replica of the request before in its session; else that with the fewest requests."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.workload.routers.base import Router, Seen, least


class OfSession(Router):
    """The replica of the request before in its session; else that with the fewest requests."""

    kind: Literal["session"] = "session"

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``."""
        del stream
        return seen.before if seen.before >= 0 else least(seen.outstanding)
