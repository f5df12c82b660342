"""Which experts are copied before they are needed: one file a prediction."""

from __future__ import annotations

from moesim.config.registry import Registry
from moesim.memory.prefetch.base import Prefetcher

registry: Registry[Prefetcher] = Registry(
    "moesim.memory.prefetch", Prefetcher, "moesim.prefetchers"
)
