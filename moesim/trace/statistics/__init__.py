"""Statistics of routing: load, reuse, batches and correlation between layers."""

from __future__ import annotations

from moesim.trace.statistics.summary import DEFINITIONS, statistics

__all__ = ["DEFINITIONS", "statistics"]
