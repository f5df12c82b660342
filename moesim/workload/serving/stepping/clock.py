"""When steps are decided, and what a scheduler yields as the clock goes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from moesim.config.registry import answering
from moesim.workload.serving.base import KEY, RequestScheduler, knobs_of
from moesim.workload.serving.state import (
    BEGIN,
    MEMORY,
    NEVER,
    SEEN,
    STEPS,
    Asked,
    Ints,
    Room,
    State,
    new_state,
    with_room,
)
from moesim.workload.serving.stepping.host import (
    DUE,
    HOST_NUMBERS,
    LAG,
    NO_TIME,
    SEES,
    START,
    TAKES,
    WAITS,
    HostTimes,
    end_step,
    turn,
    wait_for,
)
from moesim.workload.serving.stepping.steps import Both, By, Fill, arrive, next_arrival, see_end

Steps = Generator[tuple[State, int, int], int, None]
"""Yields the state after each decision, the instant before which the step does not start, and so
long before it the host works on the step; is sent when it has ended on every GPU."""


def opened(asked: Asked, room: Room, scheduler: RequestScheduler) -> tuple[State, Any]:
    """The state before anything has arrived, and the numbers of the scheduler's rule."""
    longest = min(room.longest, scheduler.longest)
    room = replace(
        room, longest=longest, longest_prompt=scheduler.longest_prompt,
        most_flying=scheduler.most_flying,
    )  # fmt: skip
    state = new_state(asked, room, scheduler.most_running, scheduler.orders)
    knobs = knobs_of(scheduler, int(state.ranks[MEMORY, 0]))
    return state, knobs if room.exchange is None else Both(knobs, room.exchange.knobs)


def played(asked: Asked, room: Room, scheduler: RequestScheduler) -> State:
    """All steps, where no clock matters."""
    from moesim.workload.serving.stepping.loop import play  # loads numba

    state, knobs = opened(asked, replace(room, visible_ns=0, visible_each_ns=0), scheduler)
    with answering(KEY, scheduler):
        return play(rules_of(scheduler, room), state, knobs, int(scheduler.async_scheduling))


def rules_of(scheduler: RequestScheduler, room: Room) -> tuple[Callable[..., Any], ...]:
    """The scheduler's rule, and those of a split that moves something."""
    split = room.exchange
    return (scheduler.rule(), *(() if split is None else (split.offer, split.move)))


class Server:
    """An engine's scheduler, with the rules and knobs that it decides ``by``, and its clock, with
    the numbers of its ``host``. ``fill``: as ``filled_with`` makes it, None: compiled.
    """

    def __init__(
        self,
        asked: Asked,
        room: Room,
        scheduler: RequestScheduler,
        times: HostTimes = NO_TIME,
        fill: Fill | None = None,
    ) -> None:
        self.state, knobs = opened(asked, room, scheduler)
        self.times, self.host, self.scheduler = times, host_of(scheduler), scheduler
        self.by, self._turn = By(fill, knobs), turn
        if fill is None:
            from moesim.workload.serving.stepping.loop import compiled, turns  # loads numba

            self.by = compiled(rules_of(scheduler, room), self.state, knobs)
            self._turn = turns(self.state, times)
        self.follows: Callable[[int], bool] | None = None
        """Who has played steps ahead decides what is due before an instant, as long as it was
        foreseen; whether a step is decided that was not.
        """

    @property
    def due(self) -> int:
        """When it decides next, NEVER where nothing is known to come."""
        return int(self.host[DUE])

    def see(self) -> None:
        """The ends that the next decision sees are seen now."""
        while self.state.numbers[SEEN] < self.host[SEES]:
            see_end(self.state)

    def decide(self, until: int = 0) -> tuple[State, int, int] | None:
        """Decide the next step, as ``Steps`` has it; None: there is nothing, and what is ``due`` is
        the next decision. What is foreseen, and due before ``until``, ends at once.
        """
        self.state = roomy(self.state, 1)
        if self.follows is not None and self.due < until:
            decided = self.follows(until)
        else:
            with answering(KEY, self.scheduler):
                decided = bool(self._turn(self.state, self.by, self.host, self.times))
        if not decided:
            return None
        return self.state, int(self.host[START]), int(self.host[TAKES])

    def ended(self, end: int) -> None:
        """The step that was decided has ended on every GPU."""
        end_step(self.state, self.host, self.times, end)

    def come(self, request: int, instant: int) -> None:
        """``request`` comes at an ``instant`` that is not before the last decision."""
        arrive(self.state, request, instant)
        if self.host[WAITS]:
            wait_for(self.host, next_arrival(self.state))

    def wake(self, instant: int) -> None:
        """Something else than a request may let it schedule at an ``instant`` that is not before
        the last decision.
        """
        if self.host[WAITS] and instant < self.due:
            wait_for(self.host, instant)


def steps_of(
    asked: Asked,
    room: Room,
    scheduler: RequestScheduler,
    times: HostTimes = NO_TIME,
    fill: Fill | None = None,
) -> Steps:
    """One step after another, each decided when the host comes to it (docs/serving.md); ``fill`` as
    of ``Server``.
    """
    server = Server(asked, room, scheduler, times, fill)
    while True:
        while (told := server.decide()) is None:
            if server.due == NEVER:
                return
        server.ended((yield told))


def host_of(scheduler: RequestScheduler) -> Ints:
    """The numbers of a host that has decided nothing yet."""
    host = np.zeros(HOST_NUMBERS, np.int64)
    host[LAG] = int(scheduler.async_scheduling)
    return host


def roomy(state: State, steps: int) -> State:
    """``state`` with room for so many ``steps`` more."""
    step = int(state.numbers[STEPS])
    entries = int(state.steps[BEGIN, step]) + steps * state.running.size
    while entries > state.log.shape[1] or step + steps + 1 > state.steps.shape[1]:
        state = with_room(state)
    return state
