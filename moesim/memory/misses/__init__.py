"""What a miss does: one file a way."""

from __future__ import annotations

from moesim.config.registry import Registry
from moesim.memory.misses.base import MissHandling

registry: Registry[MissHandling] = Registry("moesim.memory.misses", MissHandling, "moesim.misses")
