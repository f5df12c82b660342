"""By the gate weight of a token's experts before this one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.memory.choices.base import SCORE_UNIT, ByLimits, Ints, Seen
from moesim.runtime.compiled import built_in, code_of, njit, specialised, types

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


TOGETHER = 256
"""Rows that are looked at at once: what is known of them stays in a core's nearest cache."""


@built_in
def _line_up(top_k: int, given: Any, lines: Any) -> None:
    """Put the weights that are ``given`` [n, k] into ``lines`` [k, n]."""
    for i in range(top_k):
        for row in range(len(given)):
            lines[i, row] = given[row, i]


@built_in
def _weigh(sizes: Any, limits: Any, lines: Any, needs: Any, number: int) -> None:
    """Fill in what, times SCORE_UNIT, is beyond each of the ``limits``, ``needs`` [variants, n], of
    so many rows.
    """
    top_k, variants = sizes
    for row in range(number):
        whole = 0
        for i in range(top_k):
            whole += lines[i, row]
        for variant in range(variants):
            needs[variant, row] = (limits[variant] + 1) * max(whole, 1)


@built_in
def _want(sizes: Any, lines: Any, needs: Any, i: int, beyond: Any, number: int) -> None:
    """Fill in how many limits are exceeded by the weights before those at place ``i`` of so many
    rows; of equal ones those stand before it that do so in the row.
    """
    top_k, variants = sizes
    own = lines[i]
    for row in range(number):
        part = exceeded = 0
        for j in range(top_k):
            weight = lines[j, row]
            before = weight >= own[row] if j < i else weight > own[row]
            part += weight if before else 0
        for variant in range(variants):
            exceeded += part * SCORE_UNIT >= needs[variant, row]
        beyond[row] = exceeded


def want_with(top_k: int, variants: int) -> Callable[..., None]:
    """What tells which of so many ``variants`` rows want of the ``top_k`` experts that each
    chooses.
    """
    sizes = top_k, variants

    def want(weights: Any, limits: Any, wanted: Any) -> None:
        """Of choices [n, k], whose ``share_before`` is beyond how many ``limits``: a quotient,
        rounded down, is where what is divided is at least the next number times as much. Many rows
        at a time, in vectors.
        """
        lines, beyond = np.empty((top_k, TOGETHER), np.int64), np.empty((top_k, TOGETHER), np.uint8)
        needs = np.empty((variants, TOGETHER), np.int64)
        for first in range(0, len(weights), TOGETHER):
            given, found = weights[first : first + TOGETHER], wanted[first : first + TOGETHER]
            _line_up(top_k, given, lines)
            _weigh(sizes, limits, lines, needs, len(given))
            for i in range(top_k):
                _want(sizes, lines, needs, i, beyond[i], len(given))
            for row in range(len(given)):
                for i in range(top_k):
                    found[row, i] = beyond[i, row]

    return want


@lru_cache
def _want_of(top_k: int, variants: int) -> Any:
    signature = types.void(types.int64[:, ::1], types.int64[::1], types.uint8[:, ::1])
    return specialised(want_with, signature, constants=(top_k, variants))


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
        top_k = seen.weights.shape[2]
        weights = np.ascontiguousarray(seen.weights).reshape(-1, top_k)
        code_of(_want_of(top_k, len(limits)))(weights, limits, found.reshape(-1, top_k))
        return found
