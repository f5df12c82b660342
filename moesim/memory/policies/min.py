"""Belady's MIN, which knows the future."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from moesim.memory.policy import NEXT_USE, CachePolicy


class Min(CachePolicy):
    """Evict the expert needed again last (Belady 1966).

    No policy misses less where the experts of every step fit into the slots and every miss is
    loaded. Elsewhere one may: next uses assume that a step's experts are activated in ascending id.
    """

    kind: Literal["min"] = "min"
    looks_ahead: ClassVar[bool] = True

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The next use, latest first."""
        return -state[NEXT_USE, expert]
