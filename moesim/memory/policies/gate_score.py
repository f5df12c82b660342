"""Least gate weight of late."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.policy import ROWS, CachePolicy

SCORE, KEPT, STEP = range(ROWS, ROWS + 3)
PARTS = 10_000


class GateScore(CachePolicy):
    """Evict the expert with the least sum of gate weights, of which each forward pass takes
    ``decay`` away.

    Minus Recent Score of HybriMoE (arXiv 2504.05897), S = a TopP(s) + (1 - a) S, divided by a,
    which changes no order. The trace holds the weights of the chosen experts, so TopP is top-k.
    Scores survive eviction, and decay rounds down in units of 1 / WEIGHT_UNIT.
    """

    kind: Literal["gate_score"] = "gate_score"
    decay: Percent = Field(
        default=0.1, description="Share of the score that each forward pass takes away."
    )
    memory: ClassVar[int] = 3
    weighs: ClassVar[bool] = True

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the share that stays, in parts of PARTS."""
        del slots, resident, layers
        state[KEPT] = PARTS - round(self.decay * PARTS)
        state[STEP] = -1

    @staticmethod
    def before_activation(
        expert: Any, hit: Any, step: Any, layer: Any, weight: Any, state: Any
    ) -> None:
        """Decay all scores at the first activation of a pass, then add the weight."""
        if state[STEP, 0] != step:
            state[STEP, 0] = step
            kept = state[KEPT, 0]
            for e in range(state.shape[1]):  # never negative: dividing is faster without a sign
                state[SCORE, e] = np.uint64(state[SCORE, e] * kept) // np.uint64(PARTS)
        state[SCORE, expert] += weight

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The decayed sum."""
        return state[SCORE, expert]
