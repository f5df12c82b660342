"""Steps that are decided before the times of those before them are known, and what of it holds once
these are. Plain functions; ``loop.py`` compiles them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moesim.workload.serving.host import DUE as DUE_NEXT
from moesim.workload.serving.host import (
    ENTRIES,
    SEES,
    START,
    TAKES,
    WAITS,
    HostTimes,
    after_step,
    before_step,
    end_step,
    entries_of,
    is_over,
)
from moesim.workload.serving.state import (
    ARRIVAL,
    BEGIN,
    COUNT,
    DECIDED,
    END,
    GIVES,
    LOOP,
    NEXT,
    RANK,
    SEAT,
    STEPS,
    VERIFIES,
    WHO,
    State,
)
from moesim.workload.serving.state import START as FIRST
from moesim.workload.serving.state import WAITS as WAITING
from moesim.workload.serving.steps import next_arrival

BEFORE_NS, AFTER_NS, SEEN_FROM, SEEN_TO, COMES, STARTS, DUE, ENDS = range(8)
PACE_ROWS = 8
"""Rows of a pace, whose columns are steps: what the host takes before and after each, which ends,
by column, are seen for the first time when it is decided (from the second number on, if any), and
the arrival that it waits for; then, of a clock: when it starts at the earliest, when it is decided
and when it ends on the last GPU."""
BACK = 2
"""Columns before those of the steps that are decided ahead: of the steps before these."""
SIZES, FEW, EACH = 1 << 10, 1 << 9, 16
"""Durations are known by tokens of a step, those of more than few so many together; the last one is
that of any.
"""
TOKENS, TOOK = range(2)
"""Of steps that were foreseen and played, but did not come then: their tokens, and how long each
took."""
LAST = 4
"""Steps over which durations are smoothed."""
DRIFT, DOUBT = 128, 64
"""Foreseen instants are off by about one part in so many of the time that is foreseen, and the
doubt of a step that comes otherwise as likely as not.
"""
DOUBTS = 4 * DOUBT
"""Doubts of all at which nothing more is foreseen: what does not hold says how long steps take that
come next."""
MOST_TOKENS = 1 << 18
"""Tokens of steps that are decided ahead."""


def tokens_of(state: State, step: int) -> int:
    """The tokens of a ``step``."""
    tokens = 0
    for entry in range(state.steps[BEGIN, step], state.steps[BEGIN, step + 1]):
        tokens += state.log[COUNT, entry]
    return int(tokens)


def size_of(state: State, step: int) -> int:
    """Where the duration of a ``step`` is known."""
    tokens = tokens_of(state, step)
    return int(min(tokens if tokens < FEW else FEW + (tokens - FEW) // EACH, SIZES - 2))


def learn(state: State, durations: Any, step: int, took_ns: int) -> None:
    """A ``step`` like the ones to come took so long: they are taken for about as long as the last
    ones like them, since each by itself is more or less at random.
    """
    size = size_of(state, step)
    known = durations[size]
    durations[size] = known + (took_ns - known) // LAST if known > 0 else took_ns
    durations[SIZES - 1] = took_ns


def guess(state: State, durations: Any, step: int) -> int:
    """About how long a ``step`` takes: as one of as many tokens took, or of fewer."""
    size = size_of(state, step)
    while size > 0 and durations[size] == 0:
        size -= 1
    return int(durations[size] if durations[size] > 0 else durations[SIZES - 1])


def took(state: State, before: Any, number: int, step: int) -> int:
    """How long the ``step`` took that came so many steps behind the one that is decided now, when
    it was played ``before`` [2, steps] and had as many tokens; 0: none did.
    """
    if number < before.shape[1] and before[TOKENS, number] == tokens_of(state, step):
        return int(before[TOOK, number])
    return 0


def doubt(state: State, step: int, since: int) -> int:
    """The doubt that a foreseen ``step`` holds, if the one before holds, up to ``DOUBT``: whether a
    request comes before it is decided or behind may hang on how long steps ``since`` an instant
    take, where nobody waits in front of it, and clients do not go by these steps themselves.
    """
    now = state.steps[DECIDED, step]
    off = (now - since) // DRIFT
    if state.numbers[LOOP] or state.steps[WAITING, step] > 0 or off <= 0:
        return 0
    near = min(off, next_arrival(state) - now)
    if state.numbers[NEXT] > 0:
        near = min(near, now - state.requests[ARRIVAL, state.coming[state.numbers[NEXT] - 1]])
    return int(DOUBT * (off - near) // off)


def ahead_with(turn: Callable[..., int]) -> Callable[..., int]:
    """What decides steps ahead by ``turn``, as ``turn_with`` makes it."""

    def decide_ahead(
        state: Any, knobs: Any, host: Any, times: Any, durations: Any, before: Any, pace: Any,
        most: int,
    ) -> int:  # fmt: skip
        """The steps from the last one that is decided on, up to so many, as if each took as long as
        ``before`` (``took``), or about as long as those like it; how many, and their ``pace``
        int64[PACE_ROWS, BACK + most].
        """
        first, tokens, doubts = state.numbers[STEPS] - 1, 0, 0
        since = host[START]
        for number in range(most):
            step, column = first + number, BACK + number
            pace[BEFORE_NS, column] = before_step(times, host[ENTRIES])
            pace[AFTER_NS, column] = after_step(times, host[ENTRIES])
            tokens += tokens_of(state, step)
            if number + 1 == most or tokens > MOST_TOKENS:
                return number + 1
            known = took(state, before, number, step)
            since += known
            lasts = known if known > 0 else guess(state, durations, step)
            end_step(state, host, times, host[START] + lasts)
            pace[SEEN_FROM, column + 1] = host[SEES] - 1 - first + BACK
            pace[COMES, column + 1] = 0
            while turn(state, knobs, host, times) == 0:
                if is_over(host):
                    return number + 1
                if host[WAITS]:
                    pace[COMES, column + 1] = host[DUE_NEXT]
            pace[SEEN_TO, column + 1] = host[SEES] - first + BACK
            if pace[COMES, column + 1] > 0:  # the clock begins anew with an arrival
                since = host[DUE_NEXT]
            doubts += doubt(state, step + 1, since)
            if doubts >= DOUBTS:
                return number + 1
        return most

    return decide_ahead


def holds_with(turn: Callable[..., int]) -> Callable[..., int]:
    """What finds what holds of steps that were decided ahead by ``turn``."""

    def hold(
        state: Any, knobs: Any, host: Any, times: Any, durations: Any, ahead: Any, pace: Any,
        told: Any,
    ) -> int:  # fmt: skip
        """How many of the steps from the last one of ``state`` on, that ended as ``pace`` says, are
        as ``ahead``, a state of them all, has them; the step behind those is decided. ``told``
        int64[2, steps]: when each starts at the earliest, and so long before the host works on it.
        """
        steps = told.shape[1]
        told[0, 0], told[1, 0] = host[START], host[TAKES]
        for number in range(steps):
            step = state.numbers[STEPS]
            end = pace[ENDS, BACK + number]
            learn(state, durations, step - 1, end - pace[STARTS, BACK + number])
            end_step(state, host, times, end)
            while turn(state, knobs, host, times) == 0:
                if is_over(host):
                    return number + 1
            if number + 1 == steps or host[START] != pace[STARTS, BACK + number + 1]:
                return number + 1
            if not is_same(state, ahead, step):
                return number + 1
            told[0, number + 1], told[1, number + 1] = host[START], host[TAKES]
        return int(steps)

    return hold


def is_same(state: State, other: State, step: int) -> bool:
    """Whether a ``step`` has the same tokens on the same GPUs in both."""
    if entries_of(state, step) != entries_of(other, step):
        return False
    shift = other.steps[BEGIN, step] - state.steps[BEGIN, step]
    for entry in range(state.steps[BEGIN, step], state.steps[BEGIN, step + 1]):
        for row in (WHO, FIRST, COUNT, GIVES, VERIFIES):
            if state.log[row, entry] != other.log[row, entry + shift]:
                return False
        request = state.log[WHO, entry]
        for row in (RANK, SEAT):
            if state.requests[row, request] != other.requests[row, request]:
                return False
    return True


def open_pace(state: State, pace: Any, times: HostTimes) -> None:
    """The columns of a ``pace`` of the steps before the last one that is decided, and of that."""
    first = state.numbers[STEPS] - 1
    for column in range(BACK):
        step = first - BACK + column
        for row in range(PACE_ROWS):
            pace[row, column] = 0
        if step >= 0:
            pace[BEFORE_NS, column] = before_step(times, entries_of(state, step))
            pace[AFTER_NS, column] = after_step(times, entries_of(state, step))
            pace[DUE, column], pace[ENDS, column] = (
                state.steps[DECIDED, step],
                state.steps[END, step],
            )
    pace[SEEN_FROM, BACK] = pace[SEEN_TO, BACK] = 0
    pace[COMES, BACK] = state.steps[DECIDED, first]
