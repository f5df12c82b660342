"""What a planner sees: the first part of a run's routing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moesim.placement.mapping import Ints, room_of_gpus

Floats = NDArray[np.float64]
Folders = tuple[Path, ...]


def _nothing() -> NDArray[np.uint16]:
    return np.empty((0, 0, 0), np.uint16)


@dataclass(frozen=True, eq=False)
class Task:
    """Place ``experts`` of every MoE layer on ``gpus``.

    ``counts`` int64[batches, MoE layers, experts]: choices in each forward pass of the planning
    part; no batches for planners that learn from none. ``ids`` uint16[tokens, MoE layers, k]: the
    choices of its tokens. ``folders``: where a plan's file is looked up.
    """

    gpus: int
    counts: Ints
    ids: NDArray[np.uint16] = field(default_factory=_nothing)
    seed: int = 0
    folders: Folders = ()

    @property
    def experts(self) -> int:
        """Logical experts of a layer."""
        return int(self.counts.shape[2])

    @property
    def layers(self) -> int:
        """MoE layers."""
        return int(self.counts.shape[1])

    @cached_property
    def room(self) -> Ints:
        """Experts int64[gpus] that each GPU holds without replicas."""
        return room_of_gpus(self.experts, self.gpus)

    def shares(self, layer: int) -> Floats:
        """Each expert's share of the choices, [batches, experts], of those that have any."""
        counts = self.counts[:, layer]
        total = counts.sum(axis=1)
        shares: Floats = counts[total > 0] / total[total > 0, None]
        return shares

    @cached_property
    def totals(self) -> Ints:
        """Choices int64[MoE layers, experts] of all batches."""
        totals: Ints = self.counts.sum(axis=0)
        return totals

    def follows(self, layer: int) -> Ints:
        """How many times a token chose the one expert in ``layer`` and the other in the next,
        int64[experts, experts].
        """
        wide = self.experts + 1  # the last is no expert
        first, then = (
            np.minimum(self.ids[:, one].T, self.experts, dtype=np.int64, order="C")
            for one in (layer, layer + 1)
        )
        pairs = np.zeros(wide**2, np.int64)
        for rows in first * wide:
            for other in then:
                pairs += np.bincount(rows + other, minlength=len(pairs))
        return pairs.reshape(wide, wide)[:-1, :-1]
