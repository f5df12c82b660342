"""By the gate weight of a token's experts before this one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.memory.choices.base import SCORE_UNIT, ByLimits, Ints, Seen
from moesim.runtime.compiled import njit, specialised, types

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


def want_with(top_k: int, variants: int) -> Callable[..., None]:
    """What tells which of so many ``variants`` tokens want of the ``top_k`` experts that each
    chooses.
    """

    def want(weights: Any, limits: Any, wanted: Any) -> None:
        """Of choices [tokens, layers, k], whose ``share_before`` is beyond how many ``limits``: a
        quotient, rounded down, is where what is divided is at least the next number times as much.
        """
        for t in range(weights.shape[0]):
            for layer in range(weights.shape[1]):
                of_token, whole = weights[t, layer], 0
                for i in range(top_k):
                    whole += of_token[i]
                for i in range(top_k):
                    part, beyond = 0, 0
                    for j in range(top_k):
                        own = of_token[j]
                        more = (own > of_token[i]) | ((own == of_token[i]) & (j < i))
                        part += own if more else 0
                    for variant in range(variants):
                        beyond += part * SCORE_UNIT >= (limits[variant] + 1) * max(whole, 1)
                    wanted[t, layer, i] = beyond

    return want


@lru_cache
def _want_of(top_k: int, variants: int) -> Any:
    signature = types.void(_CUBE, types.int64[::1], types.uint8[:, :, ::1])
    return specialised(want_with, signature, constants=(top_k, variants), allocates=False)


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

    def wanted(self, seen: Seen, limits: Ints) -> NDArray[np.uint8]:
        """See ``VariantChoice``: found without the scores, as to divide takes longest."""
        found: NDArray[np.uint8] = np.empty(seen.weights.shape, np.uint8)
        _want_of(seen.ids.shape[2], len(limits))(np.ascontiguousarray(seen.weights), limits, found)
        return found
