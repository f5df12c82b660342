"""Collectors: one file a family of ops, found by folder."""

from __future__ import annotations

from moesim.calibrate.collect.ops.base import Collector
from moesim.config.registry import Registry

registry: Registry[Collector] = Registry(
    "moesim.calibrate.collect.ops", Collector, "moesim.collectors"
)
"""The collectors by kind; third parties' by the entry points ``moesim.collectors``."""

__all__ = ["Collector", "registry"]
