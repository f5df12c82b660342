"""As many experts as a share of the gate weight needs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices


class TopP(Transform):
    """A token's fewest choices that have together a share p of its recorded gate weight."""

    kind: Literal["top_p"] = "top_p"
    p: Percent = Field(description="Of the gate weight of a token's recorded choices.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        weights, ranks = choices.weighed(self.kind), choices.ranks()
        order = np.argsort(ranks, axis=2)
        falling = np.take_along_axis(weights, order, axis=2)
        before = np.take_along_axis(np.cumsum(falling, axis=2) - falling, ranks, axis=2)
        total = weights.sum(axis=2, keepdims=True)
        return choices.keep((before < self.p * total) | (ranks == 0) | (self.p == 1))
