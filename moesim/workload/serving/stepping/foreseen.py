"""The passes of requests that are served, several at a time before their times are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from moesim.config.registry import answering
from moesim.workload.schedule import Ints, Schedule
from moesim.workload.serving.base import KEY
from moesim.workload.serving.requests.requests import ServedRequests
from moesim.workload.serving.state import (
    AHEAD,
    ARRIVAL,
    BEGIN,
    COUNT,
    ENDED,
    ENTRIES,
    INPUT,
    LOG,
    LOOP,
    NEVER,
    NEXT,
    OUTPUT,
    SEEN,
    SINCE,
    START,
    STATUS,
    STEPS,
    TABLE,
    State,
)
from moesim.workload.serving.stepping.ahead import (
    BACK,
    ENDS,
    KEYS,
    NEEDS,
    PACE_ROWS,
    REACHES,
    SIZES,
    STARTS,
    TOKENS,
    TOOK,
    Past,
    open_pace,
)
from moesim.workload.serving.stepping.clock import Server, roomy
from moesim.workload.serving.stepping.cycles import must_end
from moesim.workload.serving.stepping.host import LAG, TAKES, is_over
from moesim.workload.serving.stepping.host import START as BEGINS
from moesim.workload.timetable import GrowingSchedule

BEHIND = 1 << 20
"""Entries before those of steps that are open: further back no rule looks."""
Watch = Callable[[State, int, int], None]
"""Sees the state, a step, and when it ended on every GPU; may raise what ends the run."""


class Foresight:
    """Decides steps ahead as if each took as long as those like it, and tells what of that holds
    once their times are known (``ahead.py``). ``state`` is that of what holds, whose last step is
    decided, but has not ended; ``ahead`` has those behind it, too. ``pace``: see ``ahead_with``.
    """

    def __init__(self, server: Server) -> None:
        from moesim.workload.serving.stepping.loop import decides_ahead  # loads numba
        from moesim.workload.serving.stepping.reach import NOT_KNOWN

        self.server, self._host = server, server.host
        self._compiled = decides_ahead(server.state, server.times)
        durations, sums = np.zeros((2, 3, SIZES), np.int64), np.zeros((2, SIZES, 7))
        self.past = Past(durations, sums, np.zeros((4, 0), np.int64), NOT_KNOWN)
        self._most = 1
        self.lag = int(self._host[LAG])
        self.pace = np.zeros((PACE_ROWS, BACK + AHEAD), np.int64)
        while not int(self.state.numbers[STEPS]) and not is_over(self._host):
            server.decide()
        self.ahead, self._host_ahead = copied(self.state), self._host.copy()
        self._known = first_kept(self.state)
        self._open = self._since = 0
        self.watch: Watch | None = None

    @property
    def state(self) -> State:
        """That of what holds."""
        return self.server.state

    def foresee(self, most: int) -> int:
        """Decide up to so many steps ahead, the last one that is decided among them; how many; 0:
        there are no more.
        """
        if is_over(self._host):
            return 0
        self._must_end()
        server = self.server
        server.state = roomy(server.state, AHEAD)
        self._follow()
        open_pace(server.state, self.pace, server.times)
        most = min(most, AHEAD, self._most + self.past.before.shape[1])
        asked = (server.times, self.past, self.pace, most)
        with answering(KEY, server.scheduler):
            return int(self._compiled.decide(self.ahead, server.by, self._host_ahead, *asked))

    def _must_end(self) -> None:
        must_end(self.state)

    def know(self, masks: Any, served: ServedRequests) -> None:
        """What rows choose is known (``reach.Chosen``), of the requests that are ``served``: what
        is foreseen goes by it, unless clients go by the steps themselves, and nothing is in doubt.
        """
        from moesim.workload.serving.stepping.reach import Chosen

        if not self.state.numbers[LOOP]:
            some = np.zeros(masks.shape[1], np.uint64)
            chosen = Chosen(masks, some, served.sources, served.near)
            self.past = self.past._replace(chosen=chosen)

    def hold(self, ends: Ints) -> tuple[int, Ints]:
        """How many of the steps hold, that were decided ahead and ended at ``ends`` int64[steps] on
        the last GPU; of these when each starts at the earliest, and so long before the host works
        on it, int64[2, steps that hold].
        """
        first, told = self._play(ends), np.empty((2, len(ends)), np.int64)
        told[:, :1] = self.begins()
        self.server.ended(int(ends[0]))
        held = self.follow(told, 1, NEVER)
        self._learn(first, len(ends), held)
        for step in range(held if self.watch is not None else 0):
            assert self.watch is not None, "it sees steps"
            self.watch(self.state, first + step, int(ends[step]))
        return held, told[:, :held]

    def begins(self) -> Ints:
        """When the last step that is decided starts at the earliest, and so long before the host
        works on it, int64[2, 1].
        """
        begins: Ints = self._host[[[BEGINS], [TAKES]]]
        return begins

    def follow(self, told: Ints, number: int, until: int) -> int:
        """How many of the steps that have been played hold once those that are due before ``until``
        are decided, up to the first that does not; so many do before. ``told`` int64[2, steps]: of
        each when it starts at the earliest, and so long before the host works on it.
        """
        server, span = self.server, np.array([number, until])
        asked = (server.times, self.ahead, self.pace, told, span)
        with answering(KEY, server.scheduler):
            return int(self._compiled.follow(server.state, server.by, self._host, *asked))

    def _play(self, ends: Ints) -> int:
        """The steps from the last one on, which this is, are played, and end so."""
        self.pace[ENDS, BACK : BACK + len(ends)] = ends
        return int(self.state.numbers[STEPS]) - 1

    def has_last(self) -> bool:
        """Whether the last step that is decided is the one that was foreseen."""
        step = int(self.state.numbers[STEPS]) - 1
        return bool(self._compiled.is_same(self.state, self.ahead, step))

    def _learn(self, first: int, number: int, held: int) -> None:
        """Of so many steps from ``first`` on, which have been played, so many ``held``."""
        self._compiled.learn(self.state, self.past, first, held, self.pace)
        self._most = min(AHEAD, 2 * self._most) if held == number else max(2, (number + held) // 2)
        lasted, back = self.pace[ENDS] - self.pace[STARTS], slice(BACK + held, BACK + number)
        before = np.empty((4, number - held), np.int64)
        before[[TOKENS, KEYS]] = self._sums(first, first + number)[:, held:]
        before[[TOOK, NEEDS]] = lasted[back], self.pace[REACHES, back]
        self.past = self.past._replace(before=before)

    def _sums(self, first: int, last: int) -> Ints:
        """Tokens and keys int64[2, steps] of steps first:last that are decided ahead."""
        begins = self.ahead.steps[BEGIN, first : last + 1]
        log = self.ahead.log[[COUNT, START], begins[0] : begins[-1]].astype(np.int64)
        read = np.stack((log[0], log.sum(axis=0)))
        return np.add.reduceat(read, begins[:-1] - begins[0], axis=1)

    def _follow(self) -> None:
        """Let ``ahead`` be as ``state`` is, whatever it foresaw."""
        state, step = self.state, int(self.state.numbers[STEPS])
        np.copyto(self._host_ahead, self._host)
        if self.ahead.log.shape != state.log.shape or self.ahead.steps.shape != state.steps.shape:
            self.ahead, self._known = copied(state), first_kept(state)
        else:
            self._forget()
            copy_since(state, self.ahead, (self._open, self._last()), self._since)
        there = np.flatnonzero(state.requests[STATUS, self._open :] < ENDED)
        self._open += int(there[0]) if len(there) else 0
        self._since = step - 1

    def _forget(self) -> None:
        """Memory of entries that ``ahead`` has no use for is given back: it has a new log, as what
        is never written takes none.
        """
        begin = min(first_kept(self.state), int(self.state.steps[SINCE, self._since]))
        if begin - self._known > BEHIND:
            log, entries = np.zeros(self.state.log.shape, LOG), int(self.state.numbers[ENTRIES])
            log[:, begin:entries] = self.state.log[:, begin:entries]
            self.ahead, self._known = self.ahead._replace(log=log), begin

    def _last(self) -> int:
        """One past the last request of which something has become."""
        both = (self.state, self.ahead)
        return 1 + max(int(one.coming[: one.numbers[NEXT]].max()) for one in both)


def first_kept(state: State) -> int:
    """The first entry of ``state`` that a copy has, which decides what comes next: ``BEHIND`` those
    of steps whose end has not been seen.
    """
    step = min(int(state.numbers[SEEN]), max(0, int(state.numbers[STEPS]) - 1))
    return max(0, int(state.steps[SINCE, step]) - BEHIND)


def copied(state: State) -> State:
    """Another one that is the same, but for entries before ``first_kept``."""
    own = ("contents", "accepts", "groups")  # which never change
    steps = slice(int(state.numbers[STEPS]) + 1)
    used = {"log": slice(first_kept(state), int(state.numbers[ENTRIES]))}
    used |= {"steps": steps, "units": steps}
    return State(
        *(
            one if name in own else _copied(one, used.get(name, slice(None)))
            for name, one in state._asdict().items()
        )
    )


def _copied(values: Ints, used: slice) -> Ints:
    """Another one that has the same in the columns that are ``used``, and 0 in others."""
    other: Ints = np.zeros(values.shape, values.dtype)  # zeros_like would write them all
    other[..., used] = values[..., used]
    return other


def copy_since(state: State, other: State, requests: tuple[int, int], since: int) -> None:
    """Let ``other`` be as ``state``, where they may differ in the ``requests`` first:last, when
    others come, and in steps and entries from step ``since`` on.
    """
    first, last = requests
    steps, entries = int(state.numbers[STEPS]) + 1, int(state.numbers[ENTRIES])
    for name in ("blocks", "ranks", "running", "coming", "numbers"):
        np.copyto(getattr(other, name), getattr(state, name))
    other.requests[:, first:last] = state.requests[:, first:last]
    other.requests[ARRIVAL] = state.requests[ARRIVAL]
    low, high = state.requests[TABLE, first], state.table.shape[1]
    high = state.requests[TABLE, last] if last < state.requests.shape[1] else high
    other.table[:, low:high] = state.table[:, low:high]
    begin = state.steps[SINCE, since]
    other.log[:, begin:entries] = state.log[:, begin:entries]
    other.steps[:, since:steps] = state.steps[:, since:steps]
    other.units[:, since:steps] = state.units[:, since:steps]
    np.copyto(other.found, state.found)


class Foreseen(GrowingSchedule):
    """A schedule of the passes that ``foresight`` has, as ``passes`` makes them of a state's steps,
    first:last; those of the last call of ``more_ahead`` may not hold. It ends after ``most_steps``
    of them (None: with the run), of which the last comes alone: nothing is decided behind it.
    """

    foreseen = True

    def __init__(
        self,
        foresight: Foresight,
        passes: Callable[[State, int, int], Schedule],
        most_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.foresight, self._of = foresight, passes
        self._last = NEVER if most_steps is None else most_steps - 1
        asked = foresight.state.requests
        self._reserve(int(asked[INPUT].sum() + asked[OUTPUT].sum()))
        self._add(passes(foresight.state, 0, foresight.foresee(1)))

    def more_ahead(self, most: int) -> int:
        """How many passes come next, if times are as it seems, up to so many; 0: none."""
        first = self.passes
        if first > self._last:
            return 0
        number = self.foresight.foresee(min(most, max(self._last - first, 1)))
        if number:
            self._add(self._of(self.foresight.ahead, first, first + number))
        return number

    def hold(self, first: int, ends: Ints) -> int:
        """Keep those of the passes from ``first`` on that hold, as they ended at ``ends``
        int64[passes] on the last GPU; how many.
        """
        held, (start, host) = (
            (1, self.foresight.begins()) if first == self._last else self.foresight.hold(ends)
        )
        self._cut(first + held)
        self.not_before_ns[first:], self.host_ns[first:] = start, host
        return held
