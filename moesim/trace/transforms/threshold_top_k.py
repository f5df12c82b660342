"""DS-MoE's threshold with one k for all tokens (arXiv 2404.05567)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices
from moesim.trace.transforms.threshold import above, told_of_shares


class ThresholdTopK(Transform):
    """Every token's k largest, k being the mean of what a threshold leaves in the layer, of the
    tokens of its forward pass, rounded to the nearest whole number from 1.
    """

    by_pass: ClassVar[bool] = True

    kind: Literal["threshold_top_k"] = "threshold_top_k"
    epsilon: float = Field(ge=0, description="As of 'threshold'.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        choices = told_of_shares(choices, self.kind)
        left = above(choices, self.epsilon, self.kind).sum(axis=2)
        if (passes := choices.passes) is None:
            note = "threshold_top_k: no forward passes are known, k is the mean over the trace"
            return self._kept(choices.noted(note), left, np.zeros(len(left), np.int64))
        return self._kept(choices, left, passes + 1)

    @staticmethod
    def _kept(choices: Choices, left: NDArray[np.int64], group: NDArray[np.int64]) -> Choices:
        """Each token has the k of its ``group``; ``left`` int64[T, L]."""
        tokens = np.bincount(group)
        total = np.zeros((len(tokens), left.shape[1]))
        np.add.at(total, group, left)
        k = np.maximum(1, np.floor(total / np.maximum(tokens, 1)[:, None] + 0.5))
        return choices.keep(choices.ranks() < k[group][:, :, None])
