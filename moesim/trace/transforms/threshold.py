"""DS-MoE's threshold (arXiv 2404.05567, section 3): experts whose probability is large enough."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices, Mask


class Threshold(Transform):
    """Choices whose gate weight times the number of experts is at least epsilon.

    The weights are to be probabilities over all experts: of a trace whose weights are shares of the
    chosen ones, epsilon means more. A token may be left without an expert.
    """

    kind: Literal["threshold"] = "threshold"
    epsilon: float = Field(ge=0, description="Of an even share of all experts, which is 1.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        return choices.keep(above(choices, self.epsilon, self.kind))


def above(choices: Choices, epsilon: float, kind: str) -> Mask:
    """Where a choice's weight is at least ``epsilon`` of an even share: bool[T, L, k]."""
    weights = choices.weighed(kind)
    return np.asarray(choices.chosen & (weights * choices.experts >= epsilon))
