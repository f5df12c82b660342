"""When each need comes again: what MIN ranks by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.compiled import njit, types
from moesim.engine.case import Ints
from moesim.memory.policy import NEVER

LATER = np.iinfo(np.int32).max
"""The step of a need that does not come again."""

_FLAT, _TABLE, _STEPS = types.int64[::1], types.int64[:, ::1], types.int32[::1]


@njit(types.void(types.int64, _TABLE, _TABLE, _TABLE, _STEPS), cache=True)
def _look_back(first: int, offsets: Any, needs: Any, coming: Any, after: Any) -> None:
    """Steps in which the needs of steps from ``first`` on come again; ``coming`` int64[works,
    experts] those after them, which become those from ``first`` on.
    """
    base = 0
    for work in range(len(offsets)):
        of_work = offsets[work]
        for step in range(len(of_work) - 2, -1, -1):
            for i in range(of_work[step], of_work[step + 1]):
                after[base + i] = coming[work, needs[work, i]]
                coming[work, needs[work, i]] = first + step
        base += of_work[-1]


@njit(types.void(_TABLE, _TABLE, _STEPS, _TABLE), cache=True)
def _spread(offsets: Any, needs: Any, after: Any, next_use: Any) -> None:
    """The next uses as numbers: by step, then in ascending id."""
    base, experts = 0, 1 << 20
    for work in range(len(offsets)):
        for i in range(offsets[work, -1]):
            step = after[base + i]
            next_use[work, i] = NEVER if step == LATER else step * experts + needs[work, i]
        base += offsets[work, -1]


class Ahead:
    """Next uses of a whole run, four bytes a need; told its parts backwards."""

    def __init__(self, works: int, experts: int) -> None:
        self._coming = np.full((works, experts), LATER, np.int64)
        self._after: dict[int, NDArray[np.int32]] = {}

    def look_back(self, first: int, offsets: Ints, needs: Ints) -> None:
        """The needs of the steps from ``first`` on, which come before those told so far."""
        after = np.empty(int(offsets[:, -1].sum()), np.int32)
        _look_back(first, offsets, needs, self._coming, after)
        self._after[first] = after

    @property
    def nbytes(self) -> int:
        """The bytes of all."""
        return self._coming.nbytes + sum(after.nbytes for after in self._after.values())

    def first_uses(self) -> Ints:
        """The first use of each expert int64[works, experts]."""
        number = self._coming * (1 << 20) + np.arange(self._coming.shape[1])
        return np.where(self._coming == LATER, NEVER, number)

    def next_uses(self, first: int, offsets: Ints, needs: Ints) -> Ints:
        """The next uses of the steps from ``first`` on."""
        next_use = np.empty_like(needs)
        _spread(offsets, needs, self._after[first], next_use)
        return next_use
