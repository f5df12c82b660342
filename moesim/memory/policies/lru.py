"""Least recently used."""

from __future__ import annotations

from typing import Literal

from moesim.memory.policy import LAST_USE, CachePolicy


class Lru(CachePolicy):
    """Evict the expert whose last turn is longest ago."""

    kind: Literal["lru"] = "lru"

    @staticmethod
    def key(expert, state, draw, position, candidates):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """The turn of the last use."""
        return state[LAST_USE, expert]
