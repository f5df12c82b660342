"""Requests that are served in a run, from what is asked to what has become of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from moesim.config.errors import InputError
from moesim.workload.schedule import Ints, Schedule
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.clock import NO_TIME, HostTimes, played, steps_of
from moesim.workload.serving.passes import passes_of
from moesim.workload.serving.requests import ServedRequests
from moesim.workload.serving.state import (
    ARRIVAL,
    GHOSTS,
    NEVER,
    STEPS,
    Room,
    State,
)
from moesim.workload.timetable import Passes


@dataclass(eq=False)
class Serving:
    """``served`` requests on ``gpus``, by ``scheduler`` in ``room``. ``state`` is that of the last
    run, as far as it has come; ``known``: whether the passes are known before the run;
    ``clockless``: whether it needs no clock. ``ghosts`` int64[ranks]: misses so far that one slot
    more had spared, where a split asks for them.
    """

    served: ServedRequests
    scheduler: RequestScheduler
    room: Room
    gpus: int
    clockless: bool
    known: bool = False
    times: HostTimes = NO_TIME
    state: State | None = None
    ghosts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def schedule(self) -> Schedule:
        """All passes, where no clock matters."""
        self.state = played(self.served.asked, self.room, self.scheduler)
        return self._passes(self.state, 0, int(self.state.numbers[STEPS]))

    def as_if_at_once(self) -> Schedule:
        """All passes if every request were there at the start: what is planned before a run that
        reads the clock goes by these, so that batches are full.
        """
        asked = self.served.asked
        at_once = replace(asked, arrival_ns=np.zeros_like(asked.arrival_ns))
        state = played(at_once, replace(self.room, loop=False), self.scheduler)
        return self._passes(state, 0, int(state.numbers[STEPS]))

    def passes(self) -> Passes:
        """One pass after the other, each decided when the host comes to it."""
        sent = self.served.asked.arrival_ns
        comes = np.where(sent == NEVER, NEVER, sent + self.times.frontend_ns)
        asked = replace(self.served.asked, arrival_ns=comes)
        steps = steps_of(asked, self.room, self.scheduler, self.times)
        self.ghosts = np.zeros(self.room.ranks, np.int64)
        told = self.ghosts.copy()
        try:
            self.state, start, host = next(steps)
            while True:
                step = int(self.state.numbers[STEPS]) - 1
                at = (np.array([start]), np.array([host]))
                ended = yield self._passes(self.state, step, step + 1, at)
                self.state.ranks[GHOSTS] += self.ghosts - told
                told = self.ghosts.copy()
                self.state, start, host = steps.send(int(ended.max()))
        except StopIteration:
            return

    def _passes(
        self,
        state: State,
        first: int,
        last: int,
        at: tuple[Ints, Ints] | tuple[None, None] = (None, None),
    ) -> Schedule:
        if not int(state.numbers[STEPS]):
            raise InputError(NOTHING)
        return passes_of(self.served, state, (first, last), self.gpus, at)

    def arrival_ns(self, ends_ns: Ints) -> Ints:
        """When each request came to the scheduler int64[n], of a run whose steps ended at
        ``ends_ns``; -1: never.
        """
        assert self.state is not None, "nothing has run"
        came: Ints = self.state.requests[ARRIVAL]
        if not self.clockless:
            return np.array(came)
        known = (came > 0) & (came <= len(ends_ns))  # the number of the step that it came after
        found = np.where(known, ends_ns[np.where(known, came - 1, 0)], -1)
        instants: Ints = np.where(came == 0, 0, found)
        return instants


NOTHING = (
    "workload: of all requests none is served: each is longer than the model's context, or than the"
    " KV cache; write shorter lengths, or more room"
)
