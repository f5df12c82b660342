"""A prediction of stated quality."""

from __future__ import annotations

import zlib
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View, needed, predicted


class Oracle(Prefetcher):
    """Predicts what will be needed, as well as it is told to.

    Each needed expert is predicted with probability ``recall``; wrong ones come with them so that
    ``precision`` of what is predicted is needed, on average. Says what a predictor of that quality
    would be worth.
    """

    kind: Literal["oracle"] = "oracle"
    looks_ahead: ClassVar[bool] = True
    recall: Percent = Field(default=1.0, description="Share of the needed experts it predicts.")
    precision: Percent = Field(
        default=1.0, gt=0, description="Share of the predicted experts that are needed."
    )

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        del source
        mask = needed(view, target, gpu)
        passes, experts = mask.shape
        stream = [view.seed, zlib.crc32(b"prefetch.oracle"), gpu // view.slices, target]
        generator = np.random.PCG64(np.random.SeedSequence(stream))
        generator.advance(view.first * (experts + 1))
        draws = np.random.Generator(generator).random((passes, experts + 1))
        right = mask & (draws[:, :-1] < self.recall)
        count = right.sum(axis=1)
        extra = np.floor(count * (1 - self.precision) / self.precision + draws[:, -1])
        if not extra.any():
            return predicted(right)
        rank = np.argsort(np.argsort(np.where(mask, 2.0, draws[:, :-1]), kind="stable"), axis=1)
        wrong = ~mask & (rank < np.where(count > 0, extra, 0)[:, None])
        return predicted(right | wrong)
