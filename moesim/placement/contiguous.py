"""Contiguous placement."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Planner


class Contiguous(Planner):
    """Neighbouring experts share a GPU; the first GPUs take one more where they do not divide."""

    kind: Literal["contiguous"] = "contiguous"

    def place(self, experts: int, gpus: int) -> Ints:
        """Equal runs of expert ids."""
        runs = np.array_split(np.arange(experts), gpus)
        return np.repeat(np.arange(gpus), [len(run) for run in runs])
