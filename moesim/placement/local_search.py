"""Placement improved by swaps."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from pydantic import Field

from moesim.placement.base import Ints, Learning, plan_of_gpus
from moesim.placement.contiguous import Contiguous
from moesim.placement.greedy import Greedy
from moesim.placement.objective import Score, gpu_shares, score
from moesim.placement.task import Floats, Task

BETTER, DIGITS = 1e-12, 12
"""What counts as an improvement: more than rounding."""
CELLS = 1 << 22
"""Shares of swaps held at once."""


class LocalSearch(Learning):
    """The better of greedy and contiguous, then swaps of two experts while one of them helps.

    The best swap of every two GPUs is made if it lowers the largest share of a GPU in any batch of
    the layer, or keeps that and lowers the mean over batches of the largest.
    """

    kind: Literal["local_search"] = "local_search"
    rounds: int = Field(
        default=20, ge=0, description="The most times that all pairs of GPUs are gone through."
    )

    def place(self, task: Task) -> Ints:
        """Improve each layer."""
        starts = [gpus_of_plan(planner.place(task), task) for planner in (Contiguous(), Greedy())]
        placed = [self._layer(task, n, [start[n] for start in starts]) for n in range(task.layers)]
        return plan_of_gpus(np.array(placed), task.layers)

    def _layer(self, task: Task, layer: int, starts: list[Ints]) -> Ints:
        shares = task.shares(layer)
        scores = [score(shares, start, task.gpus) for start in starts]
        placed = starts[scores.index(min(scores))].copy()
        for _ in range(self.rounds if len(shares) else 0):
            if not sum(
                swapped(shares, placed, pair, task.gpus)
                for pair in combinations(range(task.gpus), 2)
            ):
                break
        return placed


def gpus_of_plan(plan: Ints, task: Task) -> Ints:
    """Each expert's GPU int64[layers, experts] in a ``plan`` without replicas."""
    gpus = np.empty_like(plan)
    seats = np.broadcast_to(np.repeat(np.arange(task.gpus), task.room), plan.shape)
    np.put_along_axis(gpus, plan, seats, axis=1)
    return gpus


def swapped(shares: Floats, placed: Ints, pair: tuple[int, int], gpus: int) -> bool:
    """Make the best swap between the two GPUs of ``pair`` in ``placed``, if one helps."""
    loads = gpu_shares(shares, placed, gpus)
    rest = np.delete(loads, pair, axis=1).max(axis=1, initial=0.0)
    one, other = (np.flatnonzero(placed == gpu) for gpu in pair)
    at_once = max(1, CELLS // (len(shares) * len(other)))
    best, chosen = score(shares, placed, gpus), None
    for first in range(0, len(one), at_once):
        some = one[first : first + at_once]
        moved = shares[:, None, other] - shares[:, some, None]
        largest = np.maximum(loads[:, pair[0], None, None] + moved, rest[:, None, None])
        np.maximum(largest, loads[:, pair[1], None, None] - moved, out=largest)
        most, mean = largest.max(axis=0).ravel(), largest.mean(axis=0).ravel()
        swap = int(np.lexsort((mean, most.round(DIGITS)))[0])
        if _better((found := (float(most[swap]), float(mean[swap]))), best):
            best, chosen = found, (some[swap // len(other)], other[swap % len(other)])
    if chosen is not None:
        placed[chosen[0]], placed[chosen[1]] = pair[1], pair[0]
    return chosen is not None


def _better(one: Score, other: Score) -> bool:
    lower, mean = other[0] - one[0], other[1] - one[1]
    return lower > BETTER or (lower >= 0 and mean > BETTER)
