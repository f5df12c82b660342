"""Transforms of routing: which of the recorded choices a token makes. One file each."""

from __future__ import annotations

from moesim.config.registry import Registry
from moesim.trace.transforms.base import Transform

registry: Registry[Transform] = Registry(
    "moesim.trace.transforms",
    Transform,  # type: ignore[type-abstract]
    "moesim.transforms",
)
"""The transforms by kind; third parties add theirs by the entry points ``moesim.transforms``."""

__all__ = ["Transform", "registry"]
