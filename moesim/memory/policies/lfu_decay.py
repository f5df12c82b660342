"""Least frequently used, with frequencies that fade."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.memory.policy import ROWS, CachePolicy

COUNT, HALF_LIFE, DUE = range(ROWS, ROWS + 3)


class LfuDecay(CachePolicy):
    """Evict the expert with the fewest activations, where all counts are halved every ``half_life``
    activations.

    The reset of TinyLFU (Einziger et al., arXiv 1512.00727); Caffeine's sample is ten times the
    cache. Counts survive eviction, and are halved rounding down.
    """

    kind: Literal["lfu_decay"] = "lfu_decay"
    half_life: int | None = Field(
        default=None, ge=1, description="Activations between two halvings; else ten for each slot."
    )
    memory: ClassVar[int] = 3

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the half-life, and when it is over first."""
        del resident, layers
        state[HALF_LIFE] = state[DUE] = self.half_life or 10 * slots

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """Count the activation; halve all counts when it is time."""
        state[COUNT, expert] += 1
        while state[DUE, 0] <= now:  # whose activation was not told
            state[DUE, 0] += state[HALF_LIFE, 0]
        if state[DUE, 0] == now + 1:
            state[DUE, 0] += state[HALF_LIFE, 0]
            for e in range(state.shape[1]):
                state[COUNT, e] //= 2

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The faded number of activations."""
        return state[COUNT, expert]
