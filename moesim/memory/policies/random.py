"""Random replacement."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.memory.policy import CachePolicy


class Random(CachePolicy):
    """Evict any candidate, all alike; one stream for each GPU and layer."""

    kind: Literal["random"] = "random"
    draws: ClassVar[bool] = True

    @staticmethod
    def key(expert, state, draw, position, candidates):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """Zero for the drawn candidate."""
        return abs(position - int(draw * candidates))
