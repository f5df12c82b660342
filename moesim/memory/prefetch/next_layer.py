"""Experts that follow those of this layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View
from moesim.runtime.compiled import inlined, njit, types


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
        followers = np.ascontiguousarray(view.followers(source, target, self.first_part), np.int64)
        chosen, times = view.chosen_in(source)
        offsets, best = np.zeros(view.passes + 1, np.int64), np.empty(len(times), np.int64)
        _take_best(chosen.offsets, chosen.experts, times, followers, offsets, best)
        found = ActiveExperts(offsets, best[: offsets[-1]].copy())
        return _of_gpu(view, found, target, gpu, followers.shape[1])


_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
LOWEST = np.iinfo(np.int64).min


@inlined
def _take_off(keys: Any, scores: Any, times: int) -> None:
    """Take ``scores`` off ``keys``, so many ``times``. In vectors, which multiply no such numbers:
    most often it is once.
    """
    if times == 1:
        for f in range(len(keys)):
            keys[f] -= scores[f]
    else:
        for f in range(len(keys)):
            keys[f] -= times * scores[f]


@njit(types.void(_FLAT, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT), cache=True)
def _take_best(
    starts: Any, chosen: Any, times: Any, followers: Any, offsets: Any, best: Any
) -> None:
    """In each pass as many of the next experts as it has ``chosen``, from ``starts`` on, so many
    ``times``, those with most ``followers`` int64[experts, next experts], into ``best``, from
    ``offsets`` on.
    """
    keys, size, number = np.empty(followers.shape[1], np.int64), 1, 0
    while size < len(keys):
        size *= 2  # the low bits of a key are its expert: all differ, and the lowest comes first
    scores = followers * size
    for step in range(len(starts) - 1):
        for f in range(len(keys)):
            keys[f] = f
        for i in range(starts[step], starts[step + 1]):
            _take_off(keys, scores[chosen[i]], times[i])
        before = LOWEST
        for _ in range(starts[step], starts[step + 1]):
            least = 0
            for f in range(len(keys)):
                key = keys[f]
                least = min(least, key if key > before else 0)
            if least == 0:
                break
            best[number], before = least & (size - 1), least
            number += 1
        offsets[step + 1] = number


def _of_gpu(view: View, found: ActiveExperts, target: int, gpu: int, experts: int) -> ActiveExperts:
    """Of so many logical ``experts`` those ``found`` in MoE layer ``target`` that are on ``gpu``,
    as it numbers them.
    """
    logical = view.logical[target, view.local[gpu]]
    if np.array_equal(logical, np.arange(experts)):
        return found
    order = np.argsort(logical, kind="stable")
    first = np.searchsorted(logical[order], found.experts)
    held = np.searchsorted(logical[order], found.experts, "right") - first
    ends = np.concatenate(([0], np.cumsum(held)))
    places = np.arange(ends[-1]) + np.repeat(first - ends[:-1], held)
    return ActiveExperts(ends[found.offsets], order[places])
