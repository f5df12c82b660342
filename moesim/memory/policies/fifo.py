"""First in, first out."""

from __future__ import annotations

from typing import Any, Literal

from moesim.memory.policy import INSERTED, CachePolicy


class Fifo(CachePolicy):
    """Evict the expert that was loaded first."""

    kind: Literal["fifo"] = "fifo"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The activation of the load."""
        return state[INSERTED, expert]
