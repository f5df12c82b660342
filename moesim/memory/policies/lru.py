"""Least recently used."""

from __future__ import annotations

from typing import Any, Literal

from moesim.memory.policy import LAST_USE, CachePolicy


class Lru(CachePolicy):
    """Evict the expert whose last activation is longest ago."""

    kind: Literal["lru"] = "lru"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The activation of the last use."""
        return state[LAST_USE, expert]
