"""By the gate weight of a token's experts before this one."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from moesim.memory.choices.base import SCORE_UNIT, ByLimits, Ints, Seen
from moesim.runtime.compiled import njit, types

_CUBE = types.int64[:, :, ::1]


@njit(_CUBE(_CUBE), cache=True)
def share_before(weights: Any) -> Any:
    """By choice [tokens, layers, k], the share of its token's weight that those have which are
    larger, or equal and stand before it; see ``base.shares``.
    """
    before = np.zeros_like(weights)
    for t in range(weights.shape[0]):
        for layer in range(weights.shape[1]):
            of_token, whole = weights[t, layer], 0
            for i in range(len(of_token)):
                whole += of_token[i]
            for i in range(len(of_token)):
                part = 0
                for j in range(len(of_token)):  # not branched on: it would be guessed wrong
                    own = of_token[j]
                    more = (own > of_token[i]) | ((own == of_token[i]) & (j < i))
                    part += own if more else 0
                if part > 0:
                    before[t, layer, i] = part * SCORE_UNIT // whole
    return before


class GateCumulative(ByLimits):
    """A token's experts in falling gate weight: while those before have at most ``high`` of it, the
    expert is wanted in the high variant, and so on (HOBBIT, arXiv 2411.01433: T1 .6, T2 .9).
    """

    kind: Literal["gate_cumulative"] = "gate_cumulative"
    weighs: ClassVar[bool] = True

    def scores(self, seen: Seen) -> Ints:
        """See ``VariantChoice``."""
        found: Ints = share_before(np.ascontiguousarray(seen.weights))
        return found
