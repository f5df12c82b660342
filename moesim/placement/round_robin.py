"""Round-robin placement."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Planner, plan_of_gpus
from moesim.placement.task import Task


class RoundRobin(Planner):
    """Expert e sits on GPU e modulo the number of GPUs."""

    kind: Literal["round_robin"] = "round_robin"

    def place(self, task: Task) -> Ints:
        """Deal the experts out in turn."""
        return plan_of_gpus(np.arange(task.experts) % task.gpus, task.layers)
