"""How far one routing trace is from another."""

from __future__ import annotations

from moesim.trace.distance.compare import compare

__all__ = ["compare"]
