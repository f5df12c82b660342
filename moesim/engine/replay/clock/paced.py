"""The clock of passes that begin as a scheduler's host says, whose times follow from their ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import SPAN
from moesim.engine.replay.clock.loop import clock_with, decided_work, end_decided
from moesim.engine.replay.clock.records import FILLED, FIXED, FLAT, GPUS, PASSES, WORKS
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.runtime.compiled import built_in, record, types


class Pace(NamedTuple):
    """Of steps, int64[steps] each: what the host takes ``before`` and ``after`` one; which ends,
    ``seen_from`` one step ``seen_to`` another, are seen when it is decided, and the instant at
    which what it waits for ``comes``; filled in: when it ``starts`` at the earliest, when it is
    ``due`` and when it ``ends`` on the last GPU.
    """

    before: Any
    after: Any
    seen_from: Any
    seen_to: Any
    comes: Any
    starts: Any
    due: Any
    ends: Any


_INT = types.int64
PACE = record(Pace, *[FLAT] * len(Pace._fields))


@inlined(SPAN(FIXED, WORKS, GPUS, PACE, *[_INT] * 4))
def _paced_work(
    fixed: Any, works: Any, gpus: Any, _pace: Any, _first: int, _lag: int, k: int, p: int
) -> Any:
    """Work ``k`` of pass ``p``, which is decided."""
    return decided_work(fixed, works, gpus, 0, 0, 0, k, p)


@inlined(types.void(FIXED, GPUS, FILLED, PACE, *[_INT] * 3))
def begin_paced(
    _fixed: Any, gpus: Any, filled: Any, pace: Any, first: int, lag: int, p: int
) -> None:
    """As ``begin_at``, without what is fixed."""
    begin_at(gpus, filled, pace, first, lag, p)


@built_in
def begin_at(gpus: Any, filled: Any, pace: Any, first: int, lag: int, p: int) -> None:
    """Pass ``p``, step ``first + p``, begins as the pace says."""
    last = gpus.time[0]
    for g in range(1, len(gpus.time)):
        last = max(last, gpus.time[g])
    start = start_of(pace, first + p, last, lag)
    for g in range(len(gpus.time)):
        gpus.time[g] = gpus.host[g] = gpus.cursor[g] = filled.starts[p, g] = start


@built_in
def start_of(pace: Any, step: int, last: int, lag: int) -> int:
    """When ``step`` begins, before which the ``last`` GPU ends: when it is decided and the host has
    done its part.
    """
    pace.ends[step - 1] = last
    due = max(pace.comes[step], pace.due[step - 1] + pace.before[step - 1] * lag)
    for seen in range(pace.seen_from[step], pace.seen_to[step]):
        due = max(due, pace.ends[seen] + pace.after[seen])
    start = max(last, due + pace.before[step])
    pace.due[step], pace.starts[step] = due, start
    return int(start)


play_paced = compiled_clock(types.void(FIXED, PASSES, WORKS, GPUS, FILLED, PACE, _INT, _INT))(
    clock_with(_paced_work, begin_paced, end_decided, decides=False)
)
"""The clock of passes that are decided, from step ``first`` of a pace on, whose host sees ends
``lag`` steps late."""

NO_PACE = Pace(*[np.zeros(0, np.int64)] * len(Pace._fields))
"""Of passes whose starts are known."""
