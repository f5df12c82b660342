"""When each active expert comes again: what MIN ranks by."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.engine.replay.activation_index import Needed
from moesim.engine.replay.spans import IDS
from moesim.memory.policy import NEVER
from moesim.memory.slots.residency import STEP
from moesim.memory.slots.row_steps import LATER
from moesim.runtime.compiled import njit, types

RUNS_HELD = 128
Steps = NDArray[np.int32]
LookBack = Callable[[int, int, Ints], Steps]
_FLAT, _TABLE, _STEPS = types.int64[::1], types.int64[:, ::1], types.int32[::1]


@njit(types.void(types.int64, _TABLE, _TABLE, _TABLE, _STEPS), cache=True)
def _look_back(first: int, offsets: Any, active_experts: Any, coming: Any, after: Any) -> None:
    """Steps in which the active experts of steps from ``first`` on come again; ``coming``
    int64[works, experts] those after them, which become those from ``first`` on.
    """
    base = 0
    for work in range(len(offsets)):
        of_work = offsets[work]
        for step in range(len(of_work) - 2, -1, -1):
            for i in range(of_work[step], of_work[step + 1]):
                after[base + i] = coming[work, active_experts[work, i]]
                coming[work, active_experts[work, i]] = first + step
        base += of_work[-1]


def look_back(first: int, found: Needed, coming: Ints) -> Steps:
    """As ``NextUse`` has it, of passes from ``first`` on that need what is ``found``."""
    after = np.empty(int(found.offsets[:, -1].sum()), np.int32)
    _look_back(first, found.offsets, found.experts, coming, after)
    return after


@njit(types.void(types.int64, IDS, _FLAT, types.uint16[:, ::1], _TABLE, _STEPS), cache=True)
def look_back_rows(first: int, ids: Any, rows: Any, home: Any, coming: Any, after: Any) -> None:
    """As ``_look_back``, of steps that have one of the ``rows`` of ``ids`` each, choice by choice
    as the trace has them.
    """
    _, layers, top_k = ids.shape
    at = len(after)
    for step in range(len(rows) - 1, -1, -1):
        at -= layers * top_k
        for layer in range(layers):
            for i in range(top_k):
                expert = home[layer, ids[rows[step], layer, i]]
                after[at + layer * top_k + i] = coming[layer, expert]
                coming[layer, expert] = first + step


@njit(types.void(_TABLE, _TABLE, _STEPS, _TABLE), cache=True)
def _spread(offsets: Any, active_experts: Any, after: Any, next_use: Any) -> None:
    """The next uses as numbers: by step, then in ascending id."""
    base = 0
    for work in range(len(offsets)):
        for i in range(offsets[work, -1]):
            step = after[base + i]
            next_use[work, i] = NEVER if step == LATER else step * STEP + active_experts[work, i]
        base += offsets[work, -1]


class NextUse:
    """Next uses of a case of ``works`` of so many ``experts``. ``look_back`` tells the steps in
    which what passes first:last need comes again, and makes the uses that come after them those
    from ``first`` on. They are found from the last of the ``runs`` of passes to the first, and held
    for ``RUNS_HELD`` runs at a time, four bytes an active expert: a longer case is looked through
    once more.
    """

    def __init__(
        self, works: int, experts: int, runs: Sequence[tuple[int, int]], look_back: LookBack
    ) -> None:
        self._parts = [runs[i : i + RUNS_HELD] for i in range(0, len(runs), RUNS_HELD)]
        self._later: list[Ints] = []
        """What comes after each part, from the last one on."""
        self._first = np.full((works, experts), LATER, np.int64)
        for part in reversed(self._parts):
            self._later.append(self._first)
            self._first = self._hold(part, self._first, look_back)
        self._look_back = look_back if self.held_bytes is None else None

    @property
    def held_bytes(self) -> int | None:
        """The bytes of the next uses; None where not all are held."""
        if len(self._parts) > 1:
            return None
        return sum(after.nbytes for after in self._after.values())

    def first_uses(self) -> Ints:
        """The first use of each expert int64[works, experts]."""
        number = self._first * STEP + np.arange(self._first.shape[1])
        return np.where(self._first == LATER, NEVER, number)

    def after(self, first: int) -> Steps:
        """The steps in which what the run of passes from ``first`` on needs comes again."""
        if first not in self._after:
            assert self._look_back is not None, "one part is held as a whole"
            number = bisect([part[0][0] for part in self._parts], first) - 1
            self._hold(self._parts[number], self._later[-1 - number], self._look_back)
        return self._after[first]

    def next_uses(self, first: int, offsets: Ints, active_experts: Ints) -> Ints:
        """The next uses of active experts of the run of passes from ``first`` on."""
        next_use = np.empty_like(active_experts)
        _spread(offsets, active_experts, self.after(first), next_use)
        return next_use

    def _hold(self, part: Sequence[tuple[int, int]], later: Ints, look_back: LookBack) -> Ints:
        """Hold the next uses of ``part``; the uses that come ``later`` become those from it on."""
        coming, self._after = later.copy(), dict[int, Steps]()
        for first, last in reversed(part):
            self._after[first] = look_back(first, last, coming)
        return coming
