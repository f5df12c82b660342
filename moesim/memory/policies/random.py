"""Random replacement."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from moesim.memory.policy import CachePolicy


class Random(CachePolicy):
    """Evict any candidate, all alike; one stream for each GPU and layer."""

    kind: Literal["random"] = "random"
    draws: ClassVar[bool] = True

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """Zero for the drawn candidate."""
        return abs(position - int(draw * candidates))
