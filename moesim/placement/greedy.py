"""Greedy placement."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Learning, plan_of_gpus
from moesim.placement.packing import balanced_packing
from moesim.placement.task import Floats, Task


class Greedy(Learning):
    """Experts by falling mean load, each to the least loaded GPU that has room (arXiv
    2303.06182).
    """

    kind: Literal["greedy"] = "greedy"

    def place(self, task: Task) -> Ints:
        """Pack each layer."""
        loads = np.array([mean_load(task, layer) for layer in range(task.layers)])
        gpus, _ = balanced_packing(loads, task.room)
        return plan_of_gpus(gpus, task.layers)


def mean_load(task: Task, layer: int) -> Floats:
    """Each expert's share of a batch, averaged over the batches; 0 without batches."""
    shares = task.shares(layer)
    mean: Floats = shares.sum(axis=0) / max(len(shares), 1)
    return mean
