"""Experts that follow those of this layer."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View


class NextLayer(Prefetcher):
    """Predicts the experts that most often followed those just chosen, in a first part of the
    trace: co-activation counts between layers (as ExFlow, arXiv 2401.08383, counts affinity).

    As many are predicted as the pass's tokens choose in this layer.
    """

    kind: Literal["next_layer"] = "next_layer"
    across_passes: ClassVar[bool] = False
    by_source: ClassVar[bool] = True
    first_part: Percent = Field(
        default=0.25, gt=0, description="Share of the trace, from its start, that is counted."
    )

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        chosen = view.choices[:, source]
        scores = chosen @ view.followers(source, target, self.first_part)
        best = np.argsort(-scores, axis=1, kind="stable")
        rank = np.argsort(best, axis=1)
        taken = (rank < (chosen > 0).sum(axis=1)[:, None]) & (scores > 0)
        scores, taken = (view.of_local(values, target, gpu) for values in (scores, taken))
        order = np.argsort(-scores, axis=1, kind="stable")
        taken = np.take_along_axis(taken, order, axis=1)
        return ActiveExperts(np.concatenate(([0], np.cumsum(taken.sum(axis=1)))), order[taken])
