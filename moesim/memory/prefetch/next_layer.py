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
        followers = view.followers(source, target, self.first_part)
        # as numbers with a point, which are exact here, since numpy adds those up faster
        both = chosen.astype(np.float64), followers.astype(np.float64)
        scores = np.einsum("pe,ef->pf", *both).astype(np.int64)
        experts, most = scores.shape[1], (chosen > 0).sum(axis=1)
        order = scores * experts + np.arange(experts)[::-1]
        least = experts - max(int(most.max(initial=0)), 1)
        best = np.sort(np.partition(order, least, axis=1)[:, least:], axis=1)[:, ::-1]
        taken = (np.arange(best.shape[1]) < most[:, None]) & (best >= experts)
        best = experts - 1 - best % experts
        offsets = np.concatenate(([0], np.cumsum(taken.sum(axis=1))))
        return _of_gpu(view, ActiveExperts(offsets, best[taken]), target, gpu)


def _of_gpu(view: View, found: ActiveExperts, target: int, gpu: int) -> ActiveExperts:
    """Of the logical experts ``found`` in MoE layer ``target`` those on ``gpu``, as it numbers
    them.
    """
    logical = view.logical[target, view.local[gpu]]
    if np.array_equal(logical, np.arange(view.choices.shape[2])):
        return found
    order = np.argsort(logical, kind="stable")
    first = np.searchsorted(logical[order], found.experts)
    held = np.searchsorted(logical[order], found.experts, "right") - first
    ends = np.concatenate(([0], np.cumsum(held)))
    places = np.arange(ends[-1]) + np.repeat(first - ends[:-1], held)
    return ActiveExperts(ends[found.offsets], order[places])
