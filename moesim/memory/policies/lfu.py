"""Least frequently used."""

from __future__ import annotations

from typing import Any, Literal

from moesim.memory.policy import FREQUENCY, CachePolicy


class Lfu(CachePolicy):
    """Evict the expert with the fewest activations; counts survive eviction."""

    kind: Literal["lfu"] = "lfu"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The number of activations."""
        return state[FREQUENCY, expert]
