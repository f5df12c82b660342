"""Contiguous placement."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Planner
from moesim.placement.task import Task


class Contiguous(Planner):
    """Neighbouring experts share a GPU; the first GPUs take one more where they do not divide."""

    kind: Literal["contiguous"] = "contiguous"

    def place(self, task: Task) -> Ints:
        """Equal runs of expert ids."""
        return np.tile(np.arange(task.experts), (task.layers, 1))
