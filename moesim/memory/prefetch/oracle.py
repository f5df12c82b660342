"""A prediction of stated quality."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.units import Percents
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View
from moesim.runtime.compiled import inlined, njit, types
from moesim.runtime.pcg64 import (
    UNIT,
    draw_all,
    draw_at,
    jumps_of,
    moved_by,
    moved_times,
    state_of,
    steps_of,
)


class Oracle(Prefetcher):
    """Predicts what will be needed, as well as it is told to.

    Each needed expert is predicted with probability ``recall``; wrong ones come with them so that
    ``precision`` of what is predicted is needed, on average. Says what a predictor of that quality
    would be worth. Either may be a list: for the next MoE layer, the one after it, and so on, since
    predictions get worse with the distance (HOBBIT, arXiv 2411.01433: 96 % for the next layer).
    """

    kind: Literal["oracle"] = "oracle"
    looks_ahead: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    follows: ClassVar[bool] = False
    recall: Percents = Field(
        default=1.0,
        description="Share of the needed experts it predicts, or one for each layer ahead.",
    )
    precision: Percents = Field(
        default=1.0,
        description="Share of the predicted experts that are needed, or one for each layer ahead.",
    )

    @model_validator(mode="after")
    def _says_it_of_each_layer(self) -> Self:
        for name in ("recall", "precision"):
            shares = getattr(self, name)
            if isinstance(shares, tuple) and len(shares) != self.layers:
                what = f"'{name}' has {len(shares)} shares, and 'layers' is {self.layers}"
                raise ValueError(f"{what}: write one for each layer ahead, or one for all")
        if not np.all(self.precision):
            raise ValueError(
                "'precision' is 0 %: then nothing predicted is needed; write recall: 0 %"
            )
        return self

    def distances(self, view: View) -> int:
        """See ``Prefetcher``."""
        del view
        lists = isinstance(self.recall, tuple) or isinstance(self.precision, tuple)
        return self.layers if lists else 1

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        del source
        recall, precision = (_at(one, view.distance) for one in (self.recall, self.precision))
        if recall == precision == 1:
            return view.active_experts[target, gpu]
        needed, experts = view.active_experts[target, gpu], len(view.local[gpu])
        state, steps = _stream(view.seed, gpu // view.slices, target), steps_of(experts + 1)
        offsets = np.zeros(view.passes + 1, np.int64)
        active = np.ascontiguousarray(needed.experts, np.int64)
        most = min(view.passes * experts, len(active) / precision + view.passes + 1)
        found = np.empty(int(most), np.int64)
        _foretell(
            recall, precision, needed.offsets, active, state, steps, view.first, offsets, found
        )
        return ActiveExperts(offsets, found[: offsets[-1]])


@lru_cache(1 << 12)
def _stream(seed: int, group: int, target: int) -> NDArray[np.uint64]:
    """Where the draws for a MoE layer of a ``group`` of GPUs begin."""
    stream = [seed, zlib.crc32(b"prefetch.oracle"), group, target]
    return state_of(np.random.PCG64(np.random.SeedSequence(stream)))


_FLAT, _FLOAT = types.int64[::1], types.float64
LAST = np.iinfo(np.int64).max
"""Above any draw: what it is joined with is not taken."""
_STATE, _STEPS = types.uint64[::1], types.Array(types.uint64, 2, "C", readonly=True)


@njit(
    types.void(_FLOAT, _FLOAT, _FLAT, _FLAT, _STATE, _STEPS, types.int64, _FLAT, _FLAT), cache=True
)
def _foretell(
    recall: float, precision: float, needed: Any, active: Any, state: Any, steps: Any, first: int,
    offsets: Any, found: Any,
) -> None:  # fmt: skip
    """What is predicted in each pass from ``first`` on, that needs the ``active`` experts from
    ``needed`` int64[passes + 1] on, by what the stream of this ``state`` draws, which is found by
    ``steps_of`` experts and 1: the experts ``found``, from ``offsets`` on. First those that are
    needed, with room for wrong ones behind them: who has some would be guessed wrong.
    """
    experts, number, doubts, jumps = len(steps) - 2, 0, 0, jumps_of(state, steps)
    high, low = moved_times(state[0], state[1], jumps, experts + 1, first)
    bound, wrong = np.int64(np.ceil(recall / UNIT)), np.zeros(experts + 1)
    for right in range(experts + 1):
        wrong[right] = right * (1 - precision) / precision
    doubted, states = np.empty((2, len(needed)), np.int64), np.empty((len(needed), 2), np.uint64)
    for step in range(len(needed) - 1):
        before = number
        for i in range(needed[step], needed[step + 1]):
            expert = found[np.uint64(number)] = active[np.uint64(i)]
            number += draw_at(high, low, jumps, np.uint64(expert)) < bound
        last = draw_at(high, low, jumps, experts) * UNIT
        others = experts - (needed[step + 1] - needed[step])
        extra = min(int(np.floor(wrong[number - before] + last)), others)
        doubted[0, doubts], doubted[1, doubts] = step, extra
        states[doubts, 0], states[doubts, 1] = high, low
        doubts, number = doubts + (extra > 0), number + extra
        high, low = moved_by(high, low, jumps, experts + 1)
        offsets[step + 1] = number
    _add_wrong(needed, active, jumps, doubted[:, :doubts], states, offsets, found)


@inlined
def _add_wrong(
    needed: Any, active: Any, jumps: Any, doubted: Any, states: Any, offsets: Any, found: Any
) -> None:
    """Put the wrong ones in, in each step that is ``doubted`` int64[2, steps], so many: those of
    whom the least is drawn, where the stream then is, ``states`` uint64[steps, 2].
    """
    parts = np.ascontiguousarray(jumps[1:-1].T)
    keys, barred = np.zeros((2, parts.shape[1]), np.int64)
    for at in range(doubted.shape[1]):
        step, extra = doubted[0, at], doubted[1, at]
        for i in range(needed[step], needed[step + 1]):
            barred[np.uint64(active[np.uint64(i)])] = LAST
        draw_all(states[at, 0], states[at, 1], parts, barred, keys)
        for i in range(needed[step], needed[step + 1]):
            barred[np.uint64(active[np.uint64(i)])] = 0
        for end in range(offsets[step + 1] - extra, offsets[step + 1]):
            place = _least_of(keys)
            _put_in(found, offsets[step], end, place)
            keys[place] = LAST


@inlined
def _least_of(keys: Any) -> int:
    """Where the least of ``keys`` is, of equals the first. In vectors."""
    least = place = np.int64(LAST)
    for e in range(len(keys)):
        least = min(least, keys[e])
    for e in range(len(keys)):
        place = min(place, e | -np.int64(keys[e] != least) & LAST)
    return int(place)


@inlined
def _put_in(found: Any, first: int, last: int, expert: int) -> None:
    """Let ``expert`` be one of those ``found`` first:last, which ascend."""
    for at in range(last, first, -1):  # all of them: how many are above would be guessed wrong
        before = found[np.uint64(at - 1)]
        found[np.uint64(at)], expert = max(before, expert), min(before, expert)
    found[np.uint64(first)] = expert


def _at(shares: float | tuple[float, ...], distance: int) -> float:
    return shares[distance - 1] if isinstance(shares, tuple) else shares
