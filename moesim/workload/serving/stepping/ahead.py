"""Steps that are decided before the times of those before them are known, and what of it holds once
these are. Plain functions; ``loop.py`` compiles them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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
from moesim.workload.serving.stepping.host import DUE as DUE_NEXT
from moesim.workload.serving.stepping.host import (
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
    turn,
)
from moesim.workload.serving.stepping.steps import By, next_arrival

BEFORE_NS, AFTER_NS, SEEN_FROM, SEEN_TO, COMES, STARTS, DUE, ENDS, REACHES = range(9)
PACE_ROWS = 9
"""Rows of a pace, whose columns are steps: what the host takes before and after each, which ends,
by column, are seen for the first time when it is decided (from the second number on, if any), and
the arrival that it waits for; then, of a clock: when it starts at the earliest, when it is decided
and when it ends on the last GPU; and how many experts it needs, 0: that is not known."""
BACK = 2
"""Columns before those of the steps that are decided ahead: of the steps before these."""
SIZES, FEW, EACH = 1 << 12, 1 << 11, 16
"""Durations are known by tokens of a step, those of more than few so many together; the last one is
that of any.
"""
TOOK, NEEDS, KEYS, TOKENS = range(4)
"""How long steps take, what they need and how many keys they read, by size; and of those that were
foreseen and played, but did not come then, their tokens, too. A step of single tokens needs
experts, where that is known, another one tokens."""
SQUARE, CROSS, KEYS_SQUARE, BY_NEEDS, BY_KEYS, TIMES_SQUARE, PAIRS = range(7)
"""Sums over pairs of steps that are alike, from which follows what an expert, or a token, and a key
more take: of squares and products of what they differ in, of products with the time, and of its
squares; how many."""
ENOUGH = 8
"""Pairs of one size that say it for that size; else those of all do."""
LAST, SLOPE = 4, 64
"""Steps over which durations are smoothed, where experts are not known, and these sums."""
ALIKE = 1e-2
"""Of what both would say apart, so much: less does not tell experts and keys apart."""
TELLING = 0.9
"""Of the squares of times, so much is to come from what steps differ in."""
DRIFT, SURE, DOUBT = 128, 8192, 64
"""Foreseen instants are off by about one part in so many of the time that is foreseen, or, where it
is known what experts steps need, in so many; and the doubt of a step that comes otherwise as likely
as not.
"""
DOUBTS = 4 * DOUBT
"""Doubts of all at which nothing more is foreseen: what does not hold says how long steps take that
come next."""
MOST_TOKENS = 1 << 18
"""Tokens of steps that are decided ahead."""


class Past(NamedTuple):
    """What says how long steps take, other ones and those of single tokens: ``durations``
    int64[2, 3, SIZES], and ``sums`` float64[2, SIZES, 7], the last ones over steps of any size; the
    steps ``before`` int64[4, steps] that were foreseen, and what is ``chosen``.
    """

    durations: Any
    sums: Any
    before: Any
    chosen: Any


def tokens_of(state: State, step: int) -> int:
    """The tokens of a ``step``."""
    tokens = 0
    for entry in range(state.steps[BEGIN, step], state.steps[BEGIN, step + 1]):
        tokens += state.log[COUNT, entry]
    return int(tokens)


def keys_of(state: State, step: int) -> int:
    """The keys of all requests that the tokens of a ``step`` read."""
    keys = 0
    for entry in range(state.steps[BEGIN, step], state.steps[BEGIN, step + 1]):
        keys += state.log[FIRST, entry] + state.log[COUNT, entry]
    return int(keys)


def size_of(state: State, step: int) -> int:
    """Where the duration of a ``step`` is known."""
    tokens = tokens_of(state, step)
    return int(min(tokens if tokens < FEW else FEW + (tokens - FEW) // EACH, SIZES - 2))


def is_single(state: State, step: int) -> int:
    """Whether each request has one token in a ``step``."""
    return int(tokens_of(state, step) == entries_of(state, step))


def nearest(durations: Any, size: int) -> int:
    """The largest known size up to ``size``, or that of the last step."""
    while size > 0 and durations[TOOK, size] == 0:
        size -= 1
    return int(size if durations[TOOK, size] > 0 else SIZES - 1)


def learn(state: State, past: Past, step: int, took_ns: int, reach: int) -> None:
    """A ``step`` like the ones to come took so long: they are taken for about as long as the last
    ones like them, but for what they differ in.
    """
    single, size, keys = is_single(state, step), size_of(state, step), keys_of(state, step)
    needs = reach if single else tokens_of(state, step)
    known, over = past.durations[single], 1 if single and reach > 0 else LAST
    like = nearest(known, size)
    longer, more = took_ns - known[TOOK, like], needs - known[NEEDS, like]
    further = keys - known[KEYS, like]
    same = like == size and (known[NEEDS, like] > 0) == (needs > 0)
    if same or (known[TOOK, like] > 0 and not single):
        compare(past.sums[single, SIZES - 1], longer, more, further)
    if same:
        compare(past.sums[single, size], longer, more, further)
        known[TOOK, size] += longer // over
        known[NEEDS, size] += more // over
        known[KEYS, size] += further // over
    else:
        known[TOOK, size], known[NEEDS, size], known[KEYS, size] = took_ns, needs, keys
    last = SIZES - 1
    known[TOOK, last], known[NEEDS, last], known[KEYS, last] = took_ns, needs, keys


def compare(sums: Any, longer: int, more: int, further: int) -> None:
    """A step took so much ``longer`` than one before it, and needs ``more``, and keys ``further``
    than that.
    """
    for k in range(PAIRS):
        sums[k] -= sums[k] / SLOPE
    sums[SQUARE] += float(more) * more
    sums[CROSS] += float(more) * further
    sums[KEYS_SQUARE] += float(further) * further
    sums[BY_NEEDS] += float(more) * longer
    sums[BY_KEYS] += float(further) * longer
    sums[TIMES_SQUARE] += float(longer) * longer
    sums[PAIRS] += 1


def longer_by(sums: Any, more: int, further: int) -> float:
    """How much longer a step takes that needs ``more``, and keys ``further``, by least squares; 0
    where most of the times comes from elsewhere, as where experts are copied.
    """
    square, cross, keys = sums[SQUARE], sums[CROSS], sums[KEYS_SQUARE]
    rest = square * keys - cross * cross
    of_needs, of_keys = 0.0, 0.0
    if rest > ALIKE * square * keys:
        of_needs = (sums[BY_NEEDS] * keys - sums[BY_KEYS] * cross) / rest
        of_keys = (sums[BY_KEYS] * square - sums[BY_NEEDS] * cross) / rest
    elif keys > 0:
        of_keys = sums[BY_KEYS] / keys
    if of_needs * sums[BY_NEEDS] + of_keys * sums[BY_KEYS] < TELLING * sums[TIMES_SQUARE]:
        return 0.0
    return float(of_needs * more + of_keys * further)


def as_like(state: State, past: Past, step: int, reach: int, like: Any) -> int:
    """How long a ``step`` takes, by how long one ``like`` it did."""
    single, size = is_single(state, step), size_of(state, step)
    needs = reach if single else tokens_of(state, step)
    more = needs - like[NEEDS] if needs > 0 and like[NEEDS] > 0 else 0
    enough = past.sums[single, size, PAIRS] >= ENOUGH
    sums = past.sums[single, size if enough else SIZES - 1]
    lasts = like[TOOK] + longer_by(sums, more, keys_of(state, step) - like[KEYS])
    return int(min(max(lasts, 0.5 * like[TOOK]), 2.0 * like[TOOK]))


def guess(state: State, past: Past, step: int, reach: int) -> int:
    """About how long a ``step`` takes: as one of as many tokens took, or of fewer."""
    known = past.durations[is_single(state, step)]
    like = nearest(known, size_of(state, step))
    if known[TOOK, like] == 0:
        return int(past.durations[1 - is_single(state, step), TOOK, SIZES - 1])
    return as_like(state, past, step, reach, known[:, like])


def took(state: State, past: Past, number: int, step: int, reach: int) -> int:
    """How long the ``step`` took that came so many steps behind the one that is decided now, when
    it was played before and had as many tokens; 0: none did.
    """
    before = past.before
    if number < before.shape[1] and before[TOKENS, number] == tokens_of(state, step):
        return as_like(state, past, step, reach, before[:, number])
    return 0


def doubt(state: State, past: Past, step: int, since: int) -> int:
    """The doubt that a foreseen ``step`` holds, if the one before holds, up to ``DOUBT``: whether a
    request comes before it is decided or behind may hang on how long steps ``since`` an instant
    take, where nobody waits in front of it, and clients do not go by these steps themselves.
    """
    now = state.steps[DECIDED, step]
    off = (now - since) // (SURE if len(past.chosen.some) > 0 else DRIFT)
    if state.numbers[LOOP] or state.steps[WAITING, step] > 0 or off <= 0:
        return 0
    near = min(off, next_arrival(state) - now)
    if state.numbers[NEXT] > 0:
        near = min(near, now - state.requests[ARRIVAL, state.coming[state.numbers[NEXT] - 1]])
    return int(DOUBT * (off - near) // off)


def ahead_with(reach_of: Callable[[State, Any, int], int]) -> Callable[..., int]:
    """What decides steps ahead, by ``reach.reach_of``."""

    def decide_ahead(
        state: Any, by: Any, host: Any, times: Any, past: Any, pace: Any, most: int
    ) -> int:
        """The steps from the last one that is decided on, up to so many, as if each took as long as
        before (``took``), or about as long as those like it; how many, and their ``pace``
        int64[PACE_ROWS, BACK + most].
        """
        first, tokens, doubts = state.numbers[STEPS] - 1, 0, 0
        since = host[START]
        for number in range(most):
            step, column = first + number, BACK + number
            pace[BEFORE_NS, column] = before_step(times, host[ENTRIES])
            pace[AFTER_NS, column] = after_step(times, host[ENTRIES])
            pace[REACHES, column] = reach = reach_of(state, past.chosen, step)
            tokens += tokens_of(state, step)
            if number + 1 == most or tokens > MOST_TOKENS:
                return number + 1
            known = took(state, past, number, step, reach)
            since += known
            lasts = known if known > 0 else guess(state, past, step, reach)
            end_step(state, host, times, host[START] + lasts)
            pace[SEEN_FROM, column + 1] = host[SEES] - 1 - first + BACK
            pace[COMES, column + 1] = 0
            while turn(state, by, host, times) == 0:
                if is_over(host):
                    return number + 1
                if host[WAITS]:
                    pace[COMES, column + 1] = host[DUE_NEXT]
            pace[SEEN_TO, column + 1] = host[SEES] - first + BACK
            if pace[COMES, column + 1] > 0:  # the clock begins anew with an arrival
                since = host[DUE_NEXT]
            doubts += doubt(state, past, step + 1, since)
            if doubts >= DOUBTS:
                return number + 1
        return most

    return decide_ahead


def follow(
    state: State, by: By, host: Any, times: HostTimes, ahead: State, pace: Any, told: Any,
    span: Any,
) -> int:  # fmt: skip
    """Decide as ``state`` has it, whose last step has ended, what is due before the second of
    ``span``, up to the first step that is not as ``ahead`` has it, a state of all that ended as
    ``pace`` says. How many of these hold, of which the first of ``span`` did before. ``told``
    int64[2, steps]: when each starts at the earliest, and so long before the host works on it.
    """
    number, until = span
    while host[DUE_NEXT] < until:
        if turn(state, by, host, times) == 0:
            continue
        column = BACK + number
        if number == told.shape[1] or host[START] != pace[STARTS, column]:
            break
        if not is_same(state, ahead, state.numbers[STEPS] - 1):
            break
        told[0, number], told[1, number] = host[START], host[TAKES]
        end_step(state, host, times, pace[ENDS, column])
        number += 1
    return int(number)


def learn_all(state: State, past: Past, first: int, number: int, pace: Any) -> None:
    """So many steps from ``first`` on were as ``pace`` says."""
    for step in range(first, first + number):
        column = BACK + step - first
        lasted = pace[ENDS, column] - pace[STARTS, column]
        learn(state, past, step, lasted, pace[REACHES, column])


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
