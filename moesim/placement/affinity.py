"""Placement that keeps the experts of one token together over layers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Learning, plan_of_gpus
from moesim.placement.task import Task


class Affinity(Learning):
    """Experts that follow one another in consecutive MoE layers share a GPU.

    From the first layer (contiguous) on, each layer is assigned so that the most tokens find their
    next expert on the GPU of the one before; an exact assignment for every two layers. The aim is
    that of ExFlow (arXiv 2401.08383), which solves all layers as one program.
    """

    kind: Literal["affinity"] = "affinity"

    def place(self, task: Task) -> Ints:
        """Assign layer by layer."""
        from scipy.optimize import linear_sum_assignment

        seats = np.repeat(np.arange(task.gpus), task.room)
        gpus = np.tile(seats, (task.layers, 1))
        for layer in range(1, task.layers if len(task.ids) else 1):
            held = gpus[layer - 1][:, None] == np.arange(task.gpus)
            gained = task.follows(layer - 1).T @ held.astype(np.int64)
            _, seat = linear_sum_assignment(gained[:, seats], maximize=True)
            gpus[layer] = seats[seat]
        return plan_of_gpus(gpus, task.layers)
