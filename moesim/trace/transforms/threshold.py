"""DS-MoE's threshold (arXiv 2404.05567, section 3): experts whose probability is large enough."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices, Mask

SAME = 0.01
"""How far sums of weights may be apart, as a share, and be the same: float16 rounds by .0005."""


class Threshold(Transform):
    """Choices whose gate weight times the number of experts is at least epsilon.

    The weights are to be probabilities over all experts: of a trace whose weights are shares of the
    chosen ones, epsilon means more. A token may be left without an expert.
    """

    kind: Literal["threshold"] = "threshold"
    epsilon: float = Field(ge=0, description="Of an even share of all experts, which is 1.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        noted = told_of_shares(choices, self.kind)
        return noted.keep(above(choices, self.epsilon, self.kind))


def told_of_shares(choices: Choices, kind: str) -> Choices:
    """``choices`` with a note where their weights are shares of the recorded ones: fewer than all
    experts are recorded, and every token's add up to the same.
    """
    sums, most = choices.weighed(kind).sum(axis=2), choices.ids.shape[2]
    sums = sums[choices.chosen.any(axis=2)]
    if most >= choices.experts or not sums.size or np.ptp(sums) > SAME * sums.mean():
        return choices
    what = f"{kind}: weights are shares of the {most} choices recorded, not probabilities over all"
    what += f" {choices.experts} experts, so that epsilon cuts less than DS-MoE's"
    return choices.noted(f"{what}; a trace of all {choices.experts} choices has those")


def above(choices: Choices, epsilon: float, kind: str) -> Mask:
    """Where a choice's weight is at least ``epsilon`` of an even share: bool[T, L, k]."""
    weights = choices.weighed(kind)
    return np.asarray(choices.chosen & (weights * choices.experts >= epsilon))
