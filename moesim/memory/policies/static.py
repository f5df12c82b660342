"""Static popularity."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.policy import USAGE, CachePolicy


class Static(CachePolicy):
    """Evict the expert used least in the first part of the trace, so that the most used stay."""

    kind: Literal["static"] = "static"
    first_part: Percent = Field(
        default=0.25, description="Share of the trace, from its start, in which uses are counted."
    )

    def learning_part(self) -> float:
        """Share of the trace whose choices are counted."""
        return self.first_part

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """Choices in the first part."""
        return state[USAGE, expert]
