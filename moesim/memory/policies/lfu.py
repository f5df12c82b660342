"""Least frequently used."""

from __future__ import annotations

from typing import Literal

from moesim.memory.policy import FREQUENCY, CachePolicy


class Lfu(CachePolicy):
    """Evict the expert with the fewest turns; counts survive eviction."""

    kind: Literal["lfu"] = "lfu"

    @staticmethod
    def key(expert, state, draw, position, candidates):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """The number of turns."""
        return state[FREQUENCY, expert]
