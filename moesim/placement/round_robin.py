"""Round-robin placement."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.placement.base import Ints, Planner


class RoundRobin(Planner):
    """Expert e sits on GPU e modulo the number of GPUs."""

    kind: Literal["round_robin"] = "round_robin"

    def place(self, experts: int, gpus: int) -> Ints:
        """Deal the experts out in turn."""
        return np.arange(experts) % gpus
