"""When steps are decided, and what a scheduler yields as the clock goes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.state import (
    BEGIN,
    DECIDED,
    END,
    MEMORY,
    NEVER,
    PREEMPTIONS,
    SEEN,
    STEPS,
    Asked,
    Room,
    State,
    new_state,
    with_room,
)
from moesim.workload.serving.steps import Both, Decide, arrive, next_arrival, see_end

Steps = Generator[tuple[State, int, int], int, None]
"""Yields the state after each decision, the instant before which the step does not start, and so
long before it the host works on the step; is sent when it has ended on every GPU."""


class HostTimes(NamedTuple):
    """What the host takes before and after a step, in ns, of which ``schedule_ns`` and
    ``output_ns`` once, the others for each request in it. ``frontend_ns``: of a request from the
    client to the scheduler, and of a token back, which nothing else waits for.
    """

    schedule_ns: int = 0
    per_request_ns: int = 0
    output_ns: int = 0
    per_request_out_ns: int = 0
    frontend_ns: int = 0

    def before(self, requests: int) -> int:
        """From the decision to the first launch."""
        return self.schedule_ns + self.per_request_ns * requests

    def after(self, requests: int) -> int:
        """From the end to when it is seen."""
        return self.output_ns + self.per_request_out_ns * requests


NO_TIME = HostTimes()


def opened(asked: Asked, room: Room, scheduler: RequestScheduler) -> tuple[State, Any]:
    """The state before anything has arrived, and the numbers of the scheduler's rule."""
    longest = min(room.longest, scheduler.longest)
    room = replace(room, longest=longest, longest_prompt=scheduler.longest_prompt)
    state = new_state(asked, room, scheduler.max_num_seqs, scheduler.orders)
    knobs = scheduler.knobs(int(state.ranks[MEMORY, 0]))
    return state, knobs if room.exchange is None else Both(knobs, room.exchange.knobs)


def played(asked: Asked, room: Room, scheduler: RequestScheduler) -> State:
    """All steps, where no clock matters."""
    from moesim.workload.serving.loop import play  # loads numba

    state, knobs = opened(asked, replace(room, visible_ns=0), scheduler)
    return play(rules_of(scheduler, room), state, knobs, int(scheduler.async_scheduling))


def rules_of(scheduler: RequestScheduler, room: Room) -> tuple[Callable[..., Any], ...]:
    """The scheduler's rule, and those of a split that moves something."""
    split = room.exchange
    return (scheduler.rule(), *(() if split is None else (split.offer, split.move)))


class Server:
    """An engine's scheduler and its clock: ``due`` is when it decides next, NEVER where nothing is
    known to come. ``decide``: as ``decided_with`` makes it, None: compiled.
    """

    def __init__(
        self,
        asked: Asked,
        room: Room,
        scheduler: RequestScheduler,
        times: HostTimes = NO_TIME,
        decide: Decide | None = None,
    ) -> None:
        self.state, self._knobs = opened(asked, room, scheduler)
        if decide is None:
            from moesim.workload.serving.loop import compiled  # loads numba

            decide = compiled(rules_of(scheduler, room), self.state, self._knobs, plays=False)
        self._by, self._times, self._lag = decide, times, int(scheduler.async_scheduling)
        self.due = self._seen = self._entries = self._preempted = 0
        self._idle = self._waits = self._idled = False

    def see(self) -> None:
        """The ends that the next decision sees are seen now."""
        while self.state.numbers[SEEN] < self._seen:
            see_end(self.state)

    def decide(self) -> tuple[State, int, int] | None:
        """Decide the next step, as ``Steps`` has it; None: there is nothing, and what is ``due`` is
        the next decision.
        """
        self.state, self._waits = _roomy(self.state), False
        step = int(self.state.numbers[STEPS])
        entries = self._by(self.state, self._knobs, self.due, self._seen)
        preempted = int(self.state.numbers[PREEMPTIONS])
        again, self._preempted = preempted > self._preempted, preempted
        if not entries:
            self._wait(again=again)
            return None
        self._entries = entries
        before = int(self.state.steps[END, step - 1]) if step else 0
        start = max(before, self.due + self._times.before(entries))
        return self.state, start, start - (self.due if self._idle or not step else before)

    def ended(self, end: int) -> None:
        """The step that was decided has ended on every GPU."""
        step = int(self.state.numbers[STEPS])
        self.state.steps[END, step - 1] = end
        self.due, self._seen = _due(self.state, step, self._lag, self._entries, self._times)
        self._idle = self._waits = False
        self._preempted = int(self.state.numbers[PREEMPTIONS])

    def come(self, request: int, instant: int) -> None:
        """``request`` comes at an ``instant`` that is not before the last decision."""
        arrive(self.state, request, instant)
        if self._waits:
            self._wait_for_arrival()

    def wake(self, instant: int) -> None:
        """Something else than a request may let it schedule at an ``instant`` that is not before
        the last decision.
        """
        if self._waits and instant < self.due:
            self.due = max(self._now, instant)
            self._idle = self._idled or instant > self._now

    def _wait(self, *, again: bool) -> None:
        """Nothing could be scheduled: the next end that is not seen is waited for, or, if all are,
        the next arrival; ``again``: a request had to go, and it may be tried at once.
        """
        seen = int(self.state.numbers[SEEN])
        if seen < int(self.state.numbers[STEPS]):
            self.due = max(self.due, _seen_at(self.state, seen, self._times))
            self._seen, self._idle = seen + 1, False
        elif not again:
            self._waits, self._now, self._idled = True, self.due, self._idle
            self._wait_for_arrival()

    def _wait_for_arrival(self) -> None:
        following = next_arrival(self.state)
        self.due = max(self._now, following)
        self._idle = self._idled or following > self._now


def steps_of(
    asked: Asked,
    room: Room,
    scheduler: RequestScheduler,
    times: HostTimes = NO_TIME,
    decide: Decide | None = None,
) -> Steps:
    """One step after another, each decided when the host comes to it (docs/serving.md); ``decide``
    as of ``Server``.
    """
    server = Server(asked, room, scheduler, times, decide)
    while True:
        while (told := server.decide()) is None:
            if server.due == NEVER:
                return
        server.ended((yield told))


def _due(state: State, step: int, lag: int, entries: int, times: HostTimes) -> tuple[int, int]:
    """When the next step is decided at the earliest, and how many ends have been seen then."""
    seen = max(int(state.numbers[SEEN]), step - lag)
    now = _seen_at(state, seen - 1, times) if seen else 0
    if step:
        host = int(state.steps[DECIDED, step - 1])
        now = max(now, host + times.before(entries) * lag)
    return now, seen


def _seen_at(state: State, step: int, times: HostTimes) -> int:
    """When the host has seen the end of ``step``."""
    entries = int(state.steps[BEGIN, step + 1] - state.steps[BEGIN, step])
    return int(state.steps[END, step]) + times.after(entries)


def _roomy(state: State) -> State:
    """``state`` with room for one more step."""
    entries, steps = state.steps[BEGIN, state.numbers[STEPS]], state.numbers[STEPS]
    full = entries + state.running.size > state.log.shape[1] or steps + 2 > state.steps.shape[1]
    return with_room(state) if full else state


def with_step_times(steps: Steps, time_of: Callable[[State, int], int]) -> State:
    """The state at the end where step ``s`` takes ``time_of(state, s)`` ns, without an engine."""
    state, start, _ = next(steps)
    with suppress(StopIteration):
        while True:
            step = int(state.numbers[STEPS]) - 1
            state, start, _ = steps.send(start + time_of(state, step))
    return state
