"""Least-Stale: what an earlier forward pass left behind goes first."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.memory.policy import LAST_PASS, ROWS, THIS_LAYER, THIS_PASS, CachePolicy

LAYER, LAYERS = range(ROWS, ROWS + 2)


class LeastStale(CachePolicy):
    """Evict what an earlier forward pass used before what this one did; of each, the expert whose
    layer comes again last, then the one used longest ago.

    Stale first is Least-Stale of SpecMD (arXiv 2602.03921); the order by layer is moesim's reading
    of it: layers run in a known order, so one that has just passed is needed last. It differs from
    LRU by forward pass only under ``scope: global``.
    """

    kind: Literal["least_stale"] = "least_stale"
    memory: ClassVar[int] = 2

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the layer of each expert."""
        del slots, resident
        experts = state.shape[1]
        state[LAYER] = np.arange(experts) // (experts // layers)
        state[LAYERS] = layers

    def take_turns(self, state: NDArray[np.int64], turns: int) -> None:
        """Count in steps, not in layers: their order is the same."""
        state[LAYER] *= turns
        state[LAYERS] *= turns

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """Used in this pass?, then the layers since its own, fewest first, then the last pass."""
        touched, layers = state[LAST_PASS, expert], state[LAYERS, 0]
        behind = state[THIS_LAYER, 0] - state[LAYER, expert]
        behind += layers if behind < 0 else 0  # a division would take longer than all the rest
        behind += layers if touched == state[THIS_PASS, 0] else 0
        return (behind << 32) + touched
