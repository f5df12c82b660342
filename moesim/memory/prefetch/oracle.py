"""A prediction of stated quality."""

from __future__ import annotations

import zlib
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.units import Percents
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View, needed


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
        mask = needed(view, target, gpu)
        passes, experts = mask.shape
        stream = [view.seed, zlib.crc32(b"prefetch.oracle"), gpu // view.slices, target]
        generator = np.random.PCG64(np.random.SeedSequence(stream))
        generator.advance(view.first * (experts + 1))
        draws = np.random.Generator(generator).random((passes, experts + 1))
        right = mask & (draws[:, :-1] < recall)
        count = right.sum(axis=1)
        extra = np.floor(count * (1 - precision) / precision + draws[:, -1])
        return ActiveExperts.of(right | _wrong(mask, draws[:, :-1], np.where(count > 0, extra, 0)))


def _wrong(mask: NDArray[np.bool_], draws: NDArray[np.float64], extra: Any) -> NDArray[np.bool_]:
    """In each pass so many ``extra`` experts that it does not need by its ``mask``, those with the
    least ``draws``, of equals the lowest id.
    """
    wrong, number = np.zeros_like(mask), np.minimum(extra, (~mask).sum(axis=1)).astype(np.int64)
    rows = np.flatnonzero(number)
    if not len(rows):
        return wrong
    keys, last = np.where(mask[rows], 2.0, draws[rows]), number[rows] - 1
    least = np.sort(np.partition(keys, last.max(), axis=1)[:, : last.max() + 1], axis=1)
    wrong[rows] = keys <= least[np.arange(len(rows)), last][:, None]
    for row in rows[wrong[rows].sum(axis=1) > number[rows]].tolist():  # equal draws
        best = np.argsort(np.where(mask[row], 2.0, draws[row]), kind="stable")[: number[row]]
        wrong[row] = False
        wrong[row, best] = True
    return wrong


def _at(shares: float | tuple[float, ...], distance: int) -> float:
    return shares[distance - 1] if isinstance(shares, tuple) else shares
