"""By the gate weight over the token's largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from moesim.config.units import Percent
from moesim.memory.choices.base import SCORE_UNIT, ByLimits, Ints, Seen, shares


class GateRatio(ByLimits):
    """An expert whose gate weight is at least ``high`` of the token's largest is wanted in the high
    variant, and so on (smart expert reduction of ik_llama.cpp, which skips the rest: -ser).
    """

    kind: Literal["gate_ratio"] = "gate_ratio"
    high: Percent = Field(default=0.5, description="From here on the high variant is wanted.")
    middle: Percent | None = Field(
        default=None, description="Below that, from here on the middle one, where there is one."
    )
    low: Percent = Field(default=0.0, description="Below that, from here on the low one.")
    weighs: ClassVar[bool] = True

    @model_validator(mode="after")
    def _ascending(self) -> GateRatio:
        limits = [one for one in (self.high, self.middle, self.low) if one is not None]
        if limits != sorted(limits, reverse=True):
            what = "are to fall: each is where its variant ends and the next one begins"
            raise ValueError(f"the limits of high, middle and low {what}")
        return self

    def scores(self, seen: Seen) -> Ints:
        """See ``VariantChoice``: what is missing to the largest weight."""
        return SCORE_UNIT - shares(seen.weights, seen.weights.max(axis=2, keepdims=True))

    def limits(self, names: Sequence[str]) -> tuple[int, ...]:
        """See ``VariantChoice``."""
        return tuple(SCORE_UNIT - one for one in super().limits(names))
