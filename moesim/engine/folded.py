"""What comes pass by pass, added up as it comes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints

TOGETHER = 1 << 13
"""Passes that are added up at once: each time takes longer than few of them do."""


class Folded:
    """Values [passes, ...] of a run that come piece by piece. ``cuts`` int64[n], ascending from 0:
    those from a cut to the next one are added up; None: each is kept.
    """

    def __init__(self, cuts: Ints | None) -> None:
        self._cuts, self._passes = cuts, 0
        self._parts: list[NDArray[Any]] = []
        self._waiting: list[NDArray[Any]] = []
        self._number = 0

    @property
    def values(self) -> Ints:
        """Those so far, [cuts or passes, ...]."""
        self._fold()
        return np.concatenate(self._parts)

    def add(self, values: NDArray[Any]) -> None:
        """Add the ``values`` of the next passes."""
        if self._cuts is None:
            self._parts.append(values)
            return
        self._waiting.append(values)
        self._number += len(values)
        if self._number >= TOGETHER:
            self._fold()

    def mark(self) -> int:
        """What ``back`` goes back to, where each is kept."""
        return len(self._parts)

    def back(self, mark: int) -> None:
        """Forget what came since then."""
        del self._parts[mark:]

    def _fold(self) -> None:
        if self._cuts is None or not self._waiting:
            return
        values, self._waiting, self._number = np.concatenate(self._waiting), [], 0
        first, self._passes = self._passes, self._passes + len(values)
        low, high = np.searchsorted(self._cuts, (first, self._passes))
        starts = self._cuts[low:high] - first
        if not len(starts) or starts[0]:  # the first of them go on from those before
            self._parts[-1][-1] += values[: starts[0] if len(starts) else None].sum(axis=0)
        if len(starts):
            self._parts.append(np.add.reduceat(values, starts, axis=0))
