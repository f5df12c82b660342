"""Placement that keeps experts apart which are busy in the same batches."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.placement.base import Ints, Learning, plan_of_gpus
from moesim.placement.greedy import mean_load
from moesim.placement.task import Floats, Task

CONSTANT = 1e-9
"""A deviation that is rounding."""


class AntiCorrelation(Learning):
    """Greedy, but an expert sees a GPU's load raised by its correlation with the experts there.

    To expert a, each expert m of a GPU counts as mean load of m + ``weight`` x Pearson(a, m), over
    the batches of the planning part (arXiv 2303.06182).
    """

    kind: Literal["anti_correlation"] = "anti_correlation"
    weight: float = Field(
        default=0.5, ge=0, description="What a correlation of 1 counts for, as a share of a batch."
    )

    def place(self, task: Task) -> Ints:
        """Place layer by layer."""
        gpus = np.array([self._layer(task, layer) for layer in range(task.layers)])
        return plan_of_gpus(gpus, task.layers)

    def _layer(self, task: Task, layer: int) -> Ints:
        mean = mean_load(task, layer)
        seen = mean[None, :] + self.weight * pearson(task.shares(layer))
        loads, left = np.zeros((task.experts, task.gpus)), task.room.copy()
        gpu_of_expert = np.zeros(task.experts, np.int64)
        for expert in np.argsort(-mean, kind="stable"):
            gpu = int(np.where(left > 0, loads[expert], np.inf).argmin())
            gpu_of_expert[expert] = gpu
            loads[:, gpu] += seen[:, expert]
            left[gpu] -= 1
        return gpu_of_expert


def pearson(shares: Floats) -> Floats:
    """The correlation of every two columns; 0 where one does not vary."""
    centred = shares - shares.sum(axis=0) / max(len(shares), 1)
    length = np.sqrt((centred**2).sum(axis=0))
    varies = length > CONSTANT
    centred[:, varies] /= length[varies]
    centred[:, ~varies] = 0
    correlation: Floats = centred.T @ centred
    return correlation
