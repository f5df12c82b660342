"""Least frequently and recently used: one score of both."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.policy import FREQUENCY, LAST_PASS, ROWS, CachePolicy

OF_FREQUENCY, OF_RECENCY = range(ROWS, ROWS + 2)
PARTS = 10_000


class Lfru(CachePolicy):
    """Evict the expert with the least weighted sum of last use and number of activations.

    The score w R / T + (1 - w) F / T of expert caches (HOBBIT, arXiv 2411.01433), with one
    precision, no layer distance and records over the whole run: R is the forward pass of the last
    use, F the number of activations, T the passes so far, which changes no order. Not the LFRU of
    content networks, which splits a cache into a privileged LRU and an unprivileged LFU part.
    """

    kind: Literal["lfru"] = "lfru"
    frequency: Percent = Field(
        default=0.5,
        description="Weight of the number of activations; the rest is that of the last use.",
    )
    memory: ClassVar[int] = 2

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the weights, in parts of PARTS."""
        del slots, resident, layers
        state[OF_FREQUENCY] = round(self.frequency * PARTS)
        state[OF_RECENCY] = PARTS - state[OF_FREQUENCY]

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The weighted sum."""
        frequent = state[OF_FREQUENCY, expert] * state[FREQUENCY, expert]
        return frequent + state[OF_RECENCY, expert] * state[LAST_PASS, expert]
