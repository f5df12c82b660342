"""Activations, launches and copies of a run of passes under LRU where a step protects what it needs
and runs it by id: for a step at once, as who goes follows without a search.

The first misses of a step take what is free, then the residents that it does not need, by their
last use. All that follow take what the step used first: its first expert, its second one, and so
on. Only where it needs all residents, but its first expert is none of them, that one takes the
resident that would come last, which misses then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Case
from moesim.engine.marks import ACTIVATED as BY_MARK
from moesim.engine.marks import BOTH, CAUSED, DECODE, MISSED, PROMPT, READ
from moesim.engine.replay.quick.activations import (
    ACCESS_HITS,
    ACTIVATED,
    DECIDED,
    HITS,
    KNOWN,
    MARKED_FROM,
    NEEDED,
    ORDER,
)
from moesim.engine.replay.quick.kept import KEPT
from moesim.memory.policies.lru import Lru
from moesim.memory.policy import LAST_USE
from moesim.runtime.compiled import built_in, njit, record, types


class Line(NamedTuple):
    """The residents of a work by their last use, the longest ago first: the ``number`` int64[1] of
    ``experts`` int64[local]; and which experts are ``there`` int64[local]: 1, or 2 where the step
    needs it, else 0. Room for the residents that a step does not need, ``idle``, for the places of
    its misses, ``missed``, and for the expert that goes for each, ``gone``, or -1.
    """

    number: Any
    experts: Any
    there: Any
    idle: Any
    missed: Any
    gone: Any


_FLAT, _TABLE, _INT = types.int64[::1], types.int64[:, ::1], types.int64
LINE = record(Line, *[_FLAT] * 6)


def goes_by_recency(case: Case) -> bool:
    """Whether ``decide_by_recency`` decides ``case``, all of whose misses are loaded."""
    by_id = case.order == "id" and case.kernels != "serial"
    return type(case.policy) is Lru and by_id and case.protect == "step"


@njit(types.void(types.boolean[::1], _TABLE, LINE), cache=True, _nrt=False)
def _line_up(resident: Any, state: Any, line: Any) -> None:
    """Fill in ``line`` as slots were left: of those used at the same time the lowest id first."""
    number = 0
    for e in range(len(resident)):
        line.there[e] = resident[e]
        line.idle[number] = e
        number += resident[e]
    line.number[0] = number
    for i in range(number):
        used, place = state[LAST_USE, line.idle[i]], 0
        for j in range(number):
            other = state[LAST_USE, line.idle[j]]
            place += other < used or (other == used and j < i)
        line.experts[place] = line.idle[i]


@njit(types.void(types.boolean[::1], _TABLE, LINE), cache=True, _nrt=False)
def _leave(resident: Any, state: Any, line: Any) -> None:
    """Leave slots as ``line`` has them."""
    for e in range(len(resident)):
        resident[e] = line.there[e] > 0
    for i in range(line.number[0]):
        state[LAST_USE, line.experts[i]] = i


@built_in
def _evict_last(active: Any, high: int, misses: int, line: Any) -> None:
    """The first miss of a step that ends at ``high`` takes the slot of the resident that would come
    last, which is a miss then.
    """
    missed, last, place = line.missed, high - 1, misses - 1
    while missed[place] == last:
        last, place = last - 1, place - 1
    for miss in range(misses, place + 1, -1):
        missed[miss] = missed[miss - 1]
    missed[place + 1], line.gone[0] = last, active[last]


@built_in
def _decide_step(active: Any, low: int, high: int, slots: int, line: Any) -> tuple[int, int]:
    """Decide a step that needs ``active[low:high]``: how many miss, and how many of these, the
    first ones, take no slot that it used before.
    """
    there, idle, gone = line.there, line.idle, line.gone
    misses = unneeded = number = 0
    for i in range(low, high):
        line.missed[misses] = i
        misses += there[active[i]] == 0
        there[active[i]] = 2
    for i in range(line.number[0]):
        idle[unneeded] = line.experts[i]
        unneeded += there[line.experts[i]] == 1
    free = max(slots - line.number[0], 0)
    others = min(free + unneeded, misses)
    taken = max(others - free, 0)
    for miss in range(others):
        gone[miss] = idle[miss - free] if miss >= free else -1
    if others == 0 and misses > 0 and line.missed[0] == low:
        _evict_last(active, high, misses, line)
        misses, others = misses + 1, 1
    for i in range(unneeded):
        there[idle[i]] = i >= taken
        line.experts[number] = idle[i]
        number += i >= taken
    stays = low + misses - others
    for i in range(low, stays):
        gone[others + i - low], there[active[i]] = active[i], 0
    for i in range(stays, high):
        line.experts[number + i - stays], there[active[i]] = active[i], 1
    line.number[0] = number + high - stays
    return misses, others


@built_in
def _launch(rows: Any, first: int, end: int, out: Any, filled: Any) -> None:
    """Fill in the launch of the activations first:end."""
    together, members = 0, filled[3]
    for i in range(first, end):
        together += rows[i]
        out.ragged_rows[members + i - first] = rows[i]  # written over if all have one
    ragged = together > end - first
    out.launch_rows[filled[0]] = 0 if ragged else together
    out.ragged_at[filled[2]], out.ragged_starts[filled[2]] = filled[0], members
    filled[0] += 1
    filled[2] += ragged
    filled[3] += end - first if ragged else 0


@built_in
def _lay_step(
    rows: Any, low: int, high: int, misses: int, others: int, line: Any, out: Any, filled: Any
) -> int:
    """Lay out a step as it was decided; how many launches it is. One ends where what it used goes;
    so that all that go for the next one were used in it.
    """
    copies, launch, first = filled[1], 0, low
    for copy in range(copies, copies + others):
        out.copy_launch[copy], out.copy_wait[copy] = 0, -1
    for miss in range(others, misses):
        if low + miss - others >= first:
            _launch(rows, first, line.missed[miss], out, filled)
            launch, first = launch + 1, line.missed[miss]
        out.copy_launch[copies + miss], out.copy_wait[copies + miss] = launch, launch - 1
    if high > low:
        _launch(rows, first, high, out, filled)
        launch += 1
    filled[1] += misses
    return launch


@built_in
def _count_in(out: Any, first: int, number: int, decode: int, prompt: int) -> None:
    """Add a ``number``, of which so many are of each of two marks, to what is counted by mark."""
    out[first + DECODE - 1] += decode
    out[first + PROMPT - 1] += prompt
    out[first + BOTH - 1] += number - decode - prompt


@built_in
def _count_by_mark(
    marks: Any, active: Any, ends: tuple[int, int], misses: int, line: Any, evicted_by: Any,
    out: Any,
) -> None:  # fmt: skip
    """As ``marks.count_marks``, of a step between these ``ends``: ``out`` int64[MARKED]."""
    decode = prompt = caused = 0
    for i in range(*ends):
        decode += marks[i] == DECODE
        prompt += marks[i] == PROMPT
    _count_in(out, BY_MARK, ends[1] - ends[0], decode, prompt)
    decode = prompt = 0
    for miss in range(misses):
        place, victim = line.missed[miss], line.gone[miss]
        mark = marks[place]
        decode += mark == DECODE
        prompt += mark == PROMPT
        caused += (mark == DECODE) & (evicted_by[active[place]] == PROMPT)
        if victim >= 0:
            evicted_by[victim] = mark
    _count_in(out, MISSED, misses, decode, prompt)
    _count_in(out, READ, misses, decode, prompt)
    out[CAUSED] += caused


@built_in
def _count_step(rows: Any, low: int, high: int, misses: int, line: Any, out: Any) -> None:
    """Add a step to ``out`` int64[COUNTED_HERE, ...]."""
    rows_of_hits = 0
    for i in range(low, high):
        rows_of_hits += rows[i]
    for miss in range(misses):
        rows_of_hits -= rows[line.missed[miss]]
    out[ACTIVATED] += high - low
    out[HITS] += high - low - misses
    out[ACCESS_HITS] += rows_of_hits


@njit(types.void(ORDER, KEPT, NEEDED, KNOWN, DECIDED), cache=True)
def decide_by_recency(order: Any, kept: Any, needed: Any, known: Any, out: Any) -> None:
    """Every work of a run of passes, as ``activations.decide_all_of`` does."""
    gpus, most, marked = len(kept.local), kept.resident.shape[1], known.marks.shape[1] > 0
    filled, room = np.zeros(4, np.int64), np.empty((5, most), np.int64)
    line = Line(np.zeros(1, np.int64), room[0], room[1], room[2], room[3], room[4])
    counts = out.counts
    for work in order.works:
        layer, gpu = work // gpus, work % gpus
        offsets, active, rows = needed.offsets[work], needed.experts[work], needed.rows[work]
        begin, end, row = kept.state_at[work], kept.state_at[work + 1], 0
        resident = kept.resident[work, : kept.local[gpu]]
        state = kept.state[begin:end].reshape((-1, len(resident)))
        if counts.shape[2] > 1:
            row = layer
        out.launch_base[work], out.copy_base[work] = filled[0], filled[1]
        first_launch, first_copy = filled[0], filled[1]
        if end > begin:
            _line_up(resident, state, line)
        else:
            line.number[0], line.there[:] = 0, 1
        out.step_launches[work, 0] = out.step_copies[work, 0] = 0
        for step in range(len(offsets) - 1):
            low, high = offsets[step], offsets[step + 1]
            misses, others = _decide_step(active, low, high, kept.slots[work], line)
            launches = _lay_step(rows, low, high, misses, others, line, out, filled)
            out.most_launches[0] = max(out.most_launches[0], launches)
            out.step_launches[work, step + 1] = filled[0] - first_launch
            out.step_copies[work, step + 1] = filled[1] - first_copy
            _count_step(rows, low, high, misses, line, counts[:, step, row, gpu])
            if marked:
                _count_by_mark(
                    known.marks[work], active, (low, high), misses, line, kept.evicted_by[work],
                    counts[MARKED_FROM:, step, row, gpu],
                )  # fmt: skip
        if end > begin:
            _leave(resident, state, line)
        for i in range(len(filled)):
            out.ends[1 + order.kinds[layer], i] = filled[i]
