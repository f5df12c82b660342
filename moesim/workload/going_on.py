"""The passes that come next if requests neither come nor end: for what is worth knowing early."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from moesim.trace.routing import Phase
from moesim.workload.schedule import Schedule
from moesim.workload.served import Served

TOKENS, MOST, FEWEST = 1 << 11, 32, 4
"""Tokens of passes that are looked ahead, and how many passes at most and at least."""


class GoingOn(NamedTuple):
    """``schedule``: pass ``first``, in which all requests decode, and those that follow it while
    each has its next token. Their rows are those of the first.
    """

    schedule: Schedule
    first: int

    @classmethod
    def of(cls, schedule: Schedule, first: int) -> Self | None:
        """What goes on from ``schedule``, pass ``first`` alone; None where that is not known."""
        served, tokens = schedule.served, len(schedule.rows)
        alone = schedule.passes == 1 and schedule.kept is None
        if served is None or not alone or not _decodes(schedule, served):
            return None
        passes = min(MOST, max(FEWEST, TOKENS // tokens))
        position = (served.position + np.arange(passes)[:, None]).ravel()
        rows, gpu, request = np.tile((schedule.rows, schedule.gpu, schedule.request), passes)
        all_decode = np.ones(len(position), np.bool_)
        whole = Served(position, all_decode, all_decode)
        offsets = np.arange(passes + 1) * tokens
        return cls(Schedule.serving(offsets, (rows, gpu, request), whole), first)

    def has(self, schedule: Schedule, first: int, last: int) -> bool:
        """Whether passes first:last of ``schedule`` are among these."""
        mine, at = self.schedule, first - self.first
        if last - self.first > mine.passes or (own := schedule.served) is None:
            return False
        low, high = schedule.offsets[first], schedule.offsets[last]
        begin, end = mine.offsets[at], mine.offsets[at + last - first]
        if high - low != end - begin or mine.served is None:
            return False
        offsets = schedule.offsets[first : last + 1] - low
        here, there = slice(low, high), slice(begin, end)
        return bool(
            (offsets == mine.offsets[at : at + len(offsets)] - begin).all()
            and (schedule.phase[first:last] == Phase.DECODE).all()
            and own.outputs[here].all()
            and (schedule.request[here] == mine.request[there]).all()
            and (schedule.gpu[here] == mine.gpu[there]).all()
            and (own.position[here] == mine.served.position[there]).all()
        )


def _decodes(schedule: Schedule, served: Served) -> bool:
    """Whether all tokens decode, and all of them give one."""
    return bool((schedule.phase == Phase.DECODE).all() and served.outputs.all())
