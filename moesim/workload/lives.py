"""The passes in which requests have tokens."""

from __future__ import annotations

from typing import NamedTuple

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


def lives_of(schedule: Schedule, phase: Phase | None = None) -> Lives:
    """The lives of all requests of ``schedule``, or what of them is of ``phase`` (``in_phase``)."""
    count, passes = int(schedule.request.max()) + 1, schedule.passes
    fills = (passes, -1, 0, -1)
    lives = Lives(*(np.full(count, fill, np.int64) for fill in fills))
    for begin in range(0, passes, BLOCK):
        block = np.arange(begin, min(begin + BLOCK, passes))
        step = np.repeat(block, schedule.offsets[block + 1] - schedule.offsets[block])
        tokens = np.arange(len(step)) + schedule.offsets[begin]
        if phase is not None:
            here = schedule.in_phase(phase, tokens, step)
            step, tokens = step[here], tokens[here]
        request = schedule.request[tokens]
        np.minimum.at(lives.first, request, step)
        np.maximum.at(lives.last, request, step)
        np.maximum.at(lives.row, request, schedule.rows[tokens])
        counted = request if schedule.kept is None else request[schedule.kept[tokens]]
        lives.tokens[:] += np.bincount(counted, minlength=count)
    return lives
