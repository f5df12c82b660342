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
from moesim.workload.serving.steps import Both, Decide, next_arrival

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


def steps_of(
    asked: Asked,
    room: Room,
    scheduler: RequestScheduler,
    times: HostTimes = NO_TIME,
    decide: Decide | None = None,
) -> Steps:
    """One step after another, each decided when the host comes to it (docs/serving.md); ``decide``:
    as ``decided_with`` makes it, None: compiled.
    """
    state, knobs = opened(asked, room, scheduler)
    if decide is None:
        from moesim.workload.serving.loop import compiled  # loads numba

        decide = compiled(rules_of(scheduler, room), state, knobs, plays=False)
    lag, entries = int(scheduler.async_scheduling), 0
    while True:
        state = _roomy(state)
        step = int(state.numbers[STEPS])
        (now, seen), idle = _due(state, step, lag, entries, times), False
        preempted = state.numbers[PREEMPTIONS]
        while not (entries := decide(state, knobs, now, seen)):
            if seen < step:
                now, seen, idle = max(now, _seen_at(state, seen, times)), seen + 1, False
            elif state.numbers[PREEMPTIONS] == preempted:
                following = next_arrival(state)
                if following == NEVER:
                    return
                now, idle = max(now, following), idle or following > now
            preempted = int(state.numbers[PREEMPTIONS])
        before = int(state.steps[END, step - 1]) if step else 0
        start = max(before, now + times.before(entries))
        ended = yield state, start, start - (now if idle or not step else before)
        state.steps[END, step] = ended


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
