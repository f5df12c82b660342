"""Experts that follow those of this layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View
from moesim.runtime.compiled import inlined, specialised, types


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
        most = np.diff(chosen.offsets).max(initial=0) * times.max(initial=0)
        narrow = int(most) * int(followers.max()) * 2 * followers.shape[1] <= NARROW
        take_best = take_best_of(np.int32 if narrow else np.int64)
        take_best(chosen.offsets, chosen.experts, times, followers, offsets, best)
        found = ActiveExperts(offsets, best[: offsets[-1]])
        return _of_gpu(view, found, target, gpu, followers.shape[1])


_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
NARROW = np.iinfo(np.int32).max


@inlined
def _take_off(keys: Any, scores: Any, times: int) -> None:
    """Take ``scores`` off ``keys``, so many ``times``. In vectors, which multiply no large numbers:
    most often it is once.
    """
    if times == 1:
        for f in range(len(keys)):
            keys[f] -= scores[f]
    else:
        for f in range(len(keys)):
            keys[f] -= times * scores[f]


def take_best_with(whole: Any) -> Callable[..., None]:
    """What takes the best, by numbers of this type, ``whole``: of small ones vectors hold more."""
    lowest, none = whole(np.iinfo(whole).min), whole(0)

    def take_best(
        starts: Any, chosen: Any, times: Any, followers: Any, offsets: Any, best: Any
    ) -> None:
        """In each pass as many of the next experts as it has ``chosen``, from ``starts`` on, so
        many ``times``, those with most ``followers`` int64[experts, next experts], into ``best``,
        from ``offsets`` on.
        """
        scores, size, number = np.zeros(followers.shape, whole), 1, 0
        while size < followers.shape[1]:
            size *= 2  # the low bits of a key are its expert: all differ, and the lowest is first
        for e in range(len(followers)):
            _take_off(scores[e], followers[e], -size)
        keys = np.empty(followers.shape[1], whole)
        for step in range(len(starts) - 1):
            for f in range(len(keys)):
                keys[f] = f
            for i in range(starts[step], starts[step + 1]):
                _take_off(keys, scores[chosen[i]], times[i])
            before = lowest
            for _ in range(starts[step], starts[step + 1]):
                least = none
                for f in range(len(keys)):
                    least = min(least, keys[f] if keys[f] > before else none)
                if least == 0:
                    break
                best[number], before = np.int64(least) & (size - 1), least
                number += 1
            offsets[step + 1] = number

    return take_best


@lru_cache
def take_best_of(whole: Any) -> Any:
    """``take_best`` by numbers of this type, compiled; kept on disk."""
    signature = types.void(_FLAT, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT)
    return specialised(take_best_with, signature, constants=(whole,))


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
