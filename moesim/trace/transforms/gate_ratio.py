"""Smart expert reduction of ik_llama.cpp (``-ser least,ratio``, pull request 239)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moesim.config.units import Percent
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices


class GateRatio(Transform):
    """The first choices always, the others if their weight is a share of the largest one's."""

    kind: Literal["gate_ratio"] = "gate_ratio"
    least: int = Field(default=1, ge=1, description="Choices that are always kept.")
    ratio: Percent = Field(description="Of the token's largest gate weight, for all others.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        weights = choices.weighed(self.kind)
        enough = weights >= self.ratio * weights.max(axis=2, keepdims=True)
        return choices.keep(enough | (choices.ranks() < self.least))
