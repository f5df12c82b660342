"""First in, first out."""

from __future__ import annotations

from typing import Literal

from moesim.memory.policy import INSERTED, CachePolicy


class Fifo(CachePolicy):
    """Evict the expert that was loaded first."""

    kind: Literal["fifo"] = "fifo"

    @staticmethod
    def key(expert, state, draw, position, candidates):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """The turn of the load."""
        return state[INSERTED, expert]
