"""Last in, first out."""

from __future__ import annotations

from typing import Any, Literal

from moesim.memory.policy import INSERTED, CachePolicy


class Lifo(CachePolicy):
    """Evict the expert that was loaded last (expert buffering, arXiv 2303.06182)."""

    kind: Literal["lifo"] = "lifo"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The activation of the load, latest first."""
        return -state[INSERTED, expert]
