"""The passes in which requests have tokens."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from moesim.trace.routing import Phase
from moesim.workload.schedule import Ints, Schedule

BLOCK = 1 << 14
"""Passes looked through at once."""


class Lives(NamedTuple):
    """Of each request int64[requests] the ``first`` and the ``last`` pass with its tokens, the
    number of ``passes`` and -1 where there is none, how many ``tokens``, without drafts that are
    rejected, and of the last one the ``row`` of the trace, -1 without.
    """

    first: Ints
    last: Ints
    tokens: Ints
    row: Ints


_known: WeakKeyDictionary[Schedule, dict[Phase | None, Lives]] = WeakKeyDictionary()


def lives_of(schedule: Schedule, phase: Phase | None = None) -> Lives:
    """The lives of all requests of ``schedule``, or what of them is of ``phase`` (``in_phase``)."""
    if schedule.grows:
        return _looked_through(schedule, phase)
    known = _known.setdefault(schedule, {})
    if phase not in known:
        known[phase] = _looked_through(schedule, phase)
    return known[phase]


def _looked_through(schedule: Schedule, phase: Phase | None) -> Lives:
    from moesim.workload.token_sums import see_tokens  # loads numba

    count, passes = int(schedule.request.max()) + 1, schedule.passes
    fills = (passes, -1, 0, -1)
    lives = Lives(*(np.full(count, fill, np.int64) for fill in fills))
    for begin in range(0, passes, BLOCK):
        offsets = schedule.offsets[begin : begin + BLOCK + 1]
        here = slice(offsets[0], offsets[-1])
        counted = np.ones(offsets[-1] - offsets[0], np.bool_)
        if phase is not None:
            counted = schedule.in_phase(phase, begin, begin + len(offsets) - 1)
        kept = counted if schedule.kept is None else counted & schedule.kept[here]
        tokens = (offsets, schedule.request[here], schedule.rows[here], counted, kept)
        arrays: list[Any] = [np.ascontiguousarray(one) for one in tokens]
        arrays += lives
        see_tokens(begin, *arrays)
    return lives
