"""Four terms: recency, frequency, use in the best variant, distance of the layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.policy import ROWS, THIS_LAYER, THIS_PASS, WANTED, CachePolicy

(
    LAST, USES, HIGH_USES, LAYER, OF_RECENCY, OF_FREQUENCY, OF_HIGH_USE, OF_DISTANCE, LAYERS, FIRST,
    END,
) = range(ROWS, ROWS + 11)  # fmt: skip
"""Of each expert, since the request began: the pass of its last use, its activations, those that
wanted the best variant; and its layer. In column 0: the weights, the layers of the pool, and the
first pass of the request."""
PARTS = 10_000


class Hobbit(CachePolicy):
    """Evict the expert with the least weighted sum of four terms, counted anew for each request:
    how lately it was used, how often, how often in the best variant, and how soon its layer comes
    again (HOBBIT, arXiv 2411.01433; its weights are not published: a quarter each).

    The terms are R / T, F / T, H / T and 1 - d / n, with T passes of the request so far and the
    expert's layer d of n layers ahead.
    """

    kind: Literal["hobbit"] = "hobbit"
    recency: Percent = Field(default=0.25, description="Weight of the last use.")
    frequency: Percent = Field(default=0.25, description="Weight of the number of uses.")
    high_use: Percent = Field(
        default=0.25, description="Weight of the number of uses that want the best variant."
    )
    distance: Percent = Field(
        default=0.25, description="Weight of how soon the layer comes (of a global scope)."
    )
    memory: ClassVar[int] = END - ROWS
    restarts: ClassVar[bool] = True

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the weights, in parts of PARTS, and the layers."""
        del slots, resident
        experts = state.shape[1]
        state[LAYER] = np.arange(experts) // (experts // layers)
        state[LAST], state[LAYERS] = -1, layers
        rows = (OF_RECENCY, OF_FREQUENCY, OF_HIGH_USE, OF_DISTANCE)
        weights = (self.recency, self.frequency, self.high_use, self.distance)
        for row, weight in zip(rows, weights, strict=True):
            state[row] = round(weight * PARTS)

    def start_request(self, state: NDArray[np.int64], this_pass: int) -> None:
        """See ``CachePolicy``: nothing was used yet."""
        state[FIRST], state[LAST] = this_pass, this_pass - 1
        state[[USES, HIGH_USES]] = 0

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The sum, times T and n."""
        first, layers = state[FIRST, 0], state[LAYERS, 0]
        passes = max(state[THIS_PASS, 0] - first + 1, 1)  # 0 before the first one
        ahead = state[LAYER, expert] - state[THIS_LAYER, 0]
        ahead += layers if ahead < 0 else 0
        used = state[OF_RECENCY, 0] * (state[LAST, expert] - first + 1)
        used += state[OF_FREQUENCY, 0] * state[USES, expert]
        used += state[OF_HIGH_USE, 0] * state[HIGH_USES, expert]
        return layers * used + state[OF_DISTANCE, 0] * (layers - ahead) * passes

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """Count the use."""
        state[LAST, expert] = state[THIS_PASS, 0]
        state[USES, expert] += 1
        if state[WANTED, expert] == 0:
            state[HIGH_USES, expert] += 1
