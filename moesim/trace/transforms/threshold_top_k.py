"""DS-MoE's threshold with one k for all tokens (arXiv 2404.05567)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices
from moesim.trace.transforms.threshold import above


class ThresholdTopK(Transform):
    """Every token's k largest, k being the mean of what a threshold leaves in the layer.

    The published rule takes the mean of a batch; here it is that of all tokens of the trace, as
    routing does not know batches, rounded to the nearest whole number from 1.
    """

    kind: Literal["threshold_top_k"] = "threshold_top_k"
    epsilon: float = Field(ge=0, description="As of 'threshold'.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        left = above(choices, self.epsilon, self.kind).sum(axis=2)
        k = np.maximum(1, np.floor(left.mean(axis=0) + 0.5))
        return choices.keep(choices.ranks() < k[None, :, None])
