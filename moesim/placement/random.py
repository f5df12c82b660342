"""Random placement."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Planner
from moesim.placement.task import Task


class Random(Planner):
    """A uniform draw for each MoE layer, from the experiment's seed."""

    kind: Literal["random"] = "random"

    def place(self, task: Task) -> Ints:
        """A permutation a layer."""
        stream = np.random.default_rng([task.seed, zlib.crc32(b"placement.random")])
        return np.array([stream.permutation(task.experts) for _ in range(task.layers)])
