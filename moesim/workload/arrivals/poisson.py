"""Requests come independently of one another."""

from __future__ import annotations

from typing import Literal

from moesim.workload.arrivals.gamma import Drawn


class Poisson(Drawn):
    """Exponential gaps: many users who do not know of each other."""

    kind: Literal["poisson"] = "poisson"
