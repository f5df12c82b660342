"""A prediction of stated quality."""

from __future__ import annotations

import zlib
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from moesim.config.units import Percents
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import LAST, Prefetcher, View, take_least
from moesim.runtime.compiled import njit, types


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
        stream = [view.seed, zlib.crc32(b"prefetch.oracle"), gpu // view.slices, target]
        generator = np.random.PCG64(np.random.SeedSequence(stream))
        generator.advance(view.first * (experts + 1))
        draws = np.random.Generator(generator).random((view.passes, experts + 1))
        offsets, found = np.zeros(view.passes + 1, np.int64), np.empty(draws.size, np.int64)
        active = np.ascontiguousarray(needed.experts, np.int64)
        _foretell(recall, precision, needed.offsets, active, draws, offsets, found)
        return ActiveExperts(offsets, found[: offsets[-1]].copy())


_FLAT, _FLOAT = types.int64[::1], types.float64


@njit(types.void(_FLOAT, _FLOAT, _FLAT, _FLAT, types.float64[:, ::1], _FLAT, _FLAT), cache=True)
def _foretell(
    recall: float, precision: float, needed: Any, active: Any, draws: Any, offsets: Any, found: Any
) -> None:
    """What is predicted in each pass that needs the ``active`` experts from ``needed`` int64[passes
    + 1] on, by ``draws`` float64[passes, experts + 1]: the experts ``found``, from ``offsets`` on.
    """
    experts, number, order = draws.shape[1] - 1, 0, draws.view(np.int64)  # of numbers above 0
    told, (keys, taken) = np.zeros(experts, np.bool_), np.empty((2, experts), np.int64)
    for step in range(len(draws)):
        drawn, before = draws[step], number
        for i in range(needed[step], needed[step + 1]):
            found[number] = active[i]
            number += drawn[active[i]] < recall
        right, extra = number - before, 0
        if right > 0:
            extra = int(np.floor(right * (1 - precision) / precision + drawn[experts]))
        if extra > 0:
            keys[:], told[:] = order[step, :experts], False
            for i in range(needed[step], needed[step + 1]):
                keys[active[i]] = LAST
            for i in range(before, number):
                told[found[i]] = True
            for i in range(take_least(keys, extra, taken)):
                told[taken[i]] = True
            number = before
            for e in range(experts):
                found[number] = e
                number += told[e]
        offsets[step + 1] = number


def _at(shares: float | tuple[float, ...], distance: int) -> float:
    return shares[distance - 1] if isinstance(shares, tuple) else shares
