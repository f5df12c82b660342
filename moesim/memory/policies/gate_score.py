"""Least gate weight of late."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.policy import ROWS, CachePolicy
from moesim.runtime.compiled import inlined

SCORE, KEPT, SHARE, STEP = range(ROWS, ROWS + 4)
"""The score of each expert; in column 0 what stays of it, in parts of PARTS and of 2 ** 46 (rounded
up; -1 once a score was not SMALL), and the pass of the last decay.
"""
PARTS = 10_000
HALF = 23
SMALL = (1 << 32) - 1


@inlined
def _decay(state: Any) -> None:
    """Keep the share of all scores. Of small ones parts of 2 ** 46 give what dividing gives, and
    vector instructions multiply by either half of them.
    """
    kept, share = state[KEPT, 0], state[SHARE, 0]
    high, low = share >> HALF & SMALL, share & (1 << HALF) - 1
    for e in range(state.shape[1]):
        score = state[SCORE, e]
        if share < 0:
            state[SCORE, e] = score * kept // PARTS
        else:
            score &= SMALL
            state[SCORE, e] = score * high + (score * low >> HALF) >> HALF


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
    memory: ClassVar[int] = 4
    weighs: ClassVar[bool] = True

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the share that stays."""
        del slots, resident, layers
        state[KEPT] = kept = PARTS - round(self.decay * PARTS)
        state[SHARE] = -(-(kept << 2 * HALF) // PARTS)
        state[STEP] = -1

    @staticmethod
    def before_activation(
        expert: Any, hit: Any, step: Any, layer: Any, weight: Any, state: Any
    ) -> None:
        """Decay all scores at the first activation of a pass, then add the weight."""
        if state[STEP, 0] != step:
            state[STEP, 0] = step
            _decay(state)
        state[SCORE, expert] += weight
        if not 0 <= state[SCORE, expert] <= SMALL:
            state[SHARE, 0] = -1

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The decayed sum."""
        return state[SCORE, expert]
