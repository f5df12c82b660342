"""The replica with the least 4 x waiting + running requests, as vLLM's balancer counts."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.workload.routers.base import Router, Seen, least
from moesim.workload.serving.stepping.steps import WAITING_WEIGHT


class OfVllm(Router):
    """The replica with the least 4 x waiting + running requests, as vLLM's balancer counts."""

    kind: Literal["vllm"] = "vllm"

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``."""
        del stream
        return least(WAITING_WEIGHT * seen.waiting + seen.running)
