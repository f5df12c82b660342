"""Requests that are served in a run, from what is asked to what has become of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.workload.remade import Remade, forget
from moesim.workload.schedule import Ints, Schedule
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.blocks import most_held
from moesim.workload.serving.fleets.disaggregated import Disaggregated
from moesim.workload.serving.fleets.fleet import Fleet, Routed
from moesim.workload.serving.fleets.wire import Roles
from moesim.workload.serving.plenty import is_plenty, with_blocks
from moesim.workload.serving.requests.passes import passes_of, same_passes
from moesim.workload.serving.requests.requests import ServedRequests
from moesim.workload.serving.state import (
    ARRIVAL,
    GHOSTS,
    INPUT,
    LEAST,
    LONGEST,
    LONGEST_PROMPT,
    LOOK_AHEAD,
    NEVER,
    OUTPUT,
    STEPS,
    Asked,
    Room,
    State,
)
from moesim.workload.serving.stepping.clock import Server, played, steps_of
from moesim.workload.serving.stepping.cycles import must_end
from moesim.workload.serving.stepping.foreseen import Foreseen, Foresight, Watch
from moesim.workload.serving.stepping.host import NO_TIME, HostTimes, way_to_scheduler
from moesim.workload.serving.stepping.led import Led
from moesim.workload.timetable import Passes


@dataclass(eq=False)
class Serving:
    """``served`` requests on ``gpus``, by ``scheduler`` in ``room``. ``state`` is that of the last
    run, as far as it has come; ``known``: whether the passes are known before the run;
    ``clockless``: whether it needs no clock. ``ghosts`` int64[ranks]: misses so far that one slot
    more had spared, where a split asks for them. ``routed``: replicas of it, and the router before
    them, None: it is alone; ``after_all`` is what has become of them. ``watch`` sees steps end.
    ``planned``: all steps that were planned last without a clock, and their passes. ``led``: who
    decides the steps of a replica, None: nobody else does. ``most_steps``: the run ends after so
    many, None: after all.
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
    routed: Routed | Roles | None = None
    after_all: Fleet | None = None
    watch: Watch | None = None
    planned: tuple[State, Schedule] | None = None
    led: Led | None = None
    most_steps: int | None = None

    def schedule(self) -> Schedule:
        """All passes, where no clock matters."""
        self.state, schedule = self._plan(self.served.asked, self.room)
        return schedule

    def as_if_at_once(self) -> Schedule:
        """All passes if every request were there at the start: what is planned before a run that
        reads the clock goes by these, so that batches are full.
        """
        asked = self.served.asked
        none = np.zeros_like(asked.arrival_ns)
        at_once = replace(asked, arrival_ns=none, follows=none - 1)  # whoever is there follows none
        if self.scheduler.orders[0]:  # at one instant arrivals no longer say who gives way
            order = np.lexsort((asked.arrival_ns, asked.priority))
            at_once = replace(at_once, priority=np.argsort(order))
        return self._plan(at_once, replace(self.room, loop=False))[1]

    def _plan(self, asked: Asked, room: Room) -> tuple[State, Schedule]:
        """All steps of what is ``asked`` where no clock matters, and their passes, which with other
        blocks are mostly those that were planned before.
        """
        if self.planned is not None and is_plenty(self.planned[0], asked, room, self.scheduler):
            return with_blocks(self.planned[0], room), self.planned[1]
        state = played(asked, room, self.scheduler)
        must_end(state)
        if self.planned is not None and same_passes(self.planned[0], state):
            self.planned = (state, self.planned[1])
            return self.planned
        if self.planned is not None:
            forget(self.planned[1])
            self.planned = None

        def again() -> Schedule:
            return self._every_pass(played(asked, room, self.scheduler))

        self.planned = (state, Remade(self._every_pass(state), again))
        return self.planned

    def _every_pass(self, state: State) -> Schedule:
        return self._passes(state, 0, int(state.numbers[STEPS]))

    def passes(self) -> Passes:
        """One pass after the other, each decided when the host comes to it."""
        if self.led is not None:
            yield from self.led.passes(self._passes)
            return
        steps = steps_of(self._coming, self.room, self.scheduler, self.times)
        self.ghosts = np.zeros(self.room.ranks if self.reads_misses else 0, np.int64)
        told = self.ghosts.copy()
        try:
            self.state, start, host = next(steps)
            while True:
                step = int(self.state.numbers[STEPS]) - 1
                at = (np.array([start]), np.array([host]))
                ended = yield self._passes(self.state, step, step + 1, at)
                if step + 1 == self.most_steps:
                    return
                if self.watch is not None:
                    self.watch(self.state, step, int(ended.max()))
                if self.reads_misses:
                    self.state.ranks[GHOSTS] += self.ghosts - told
                    told = self.ghosts.copy()
                self.state, start, host = steps.send(int(ended.max()))
                must_end(self.state)
        except StopIteration:
            return

    @property
    def reads_misses(self) -> bool:
        """Whether steps are decided by what caches missed."""
        return self.room.exchange is not None and self.room.exchange.reads_misses

    def foreseen(self) -> Foreseen:
        """The passes, several at a time before their times are known."""
        if self.led is not None:
            return Foreseen(self.led.foresight(), self._passes)
        server = Server(self._coming, self.room, self.scheduler, self.times)
        foreseen = Foreseen(Foresight(server), self._passes, self.most_steps)
        self.state, foreseen.foresight.watch = foreseen.foresight.state, self.watch
        return foreseen

    def watched(self, watch: Callable[[Serving], Watch]) -> None:
        """What ``watch`` makes sees steps end, where they give all tokens of clients."""
        if not self.room.prefilled:
            self.watch = watch(self)

    @property
    def _coming(self) -> Asked:
        """What comes, and when it is at the scheduler. ``Room.visible_ns`` has the front end's part
        of the way of what follows an end, both ways.
        """
        asked = self.served.asked
        sent, way = asked.arrival_ns, self.way_ns
        return replace(
            asked,
            arrival_ns=np.where(sent == NEVER, NEVER, sent + way),
            think_ns=asked.think_ns + way - self.times.frontend_ns,
        )

    @property
    def way_ns(self) -> Ints:
        """Of each request, from the client to the scheduler int64[n]. What is computed elsewhere is
        tokens already.
        """
        asked = self.served.asked
        prompts = np.zeros_like(asked.input_tokens) if self.room.prefilled else asked.input_tokens
        return way_to_scheduler(self.times, prompts)

    def fleet(self) -> Fleet:
        """Replicas that have served nothing yet."""
        assert self.routed is not None, "it is not alone"
        if isinstance(self.routed, Roles):
            parts = (self._coming, self.room, self.scheduler, self.routed, self.times)
            return Disaggregated(*parts)
        return Fleet(self._coming, self.room, self.scheduler, self.routed, self.times)

    def after(self, fleet: Fleet) -> Serving:
        """With what has become of its replicas."""
        return replace(self, after_all=fleet)

    def in_turns(self, turns: list[tuple[int, int]]) -> Serving:
        """With the state of all replicas, whose steps come in these ``turns``."""
        assert self.after_all is not None, "they have served"
        return replace(self, state=self.after_all.state(turns))

    @property
    def replica(self) -> Ints | None:
        """That of each request int64[n], -1: it never came; None without replicas."""
        return None if self.after_all is None else self.after_all.replica

    @property
    def apart(self) -> Disaggregated | None:
        """What became of prompts and answers on instances of their own; None: they were not."""
        return self.after_all if isinstance(self.after_all, Disaggregated) else None

    def _passes(
        self,
        state: State,
        first: int,
        last: int,
        at: tuple[Ints, Ints] | tuple[None, None] = (None, None),
    ) -> Schedule:
        if not int(state.numbers[STEPS]):
            raise InputError(nothing_served(state, self.room.longest))
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


def nothing_served(state: State, context: int) -> str:
    """Why no request has a step, by the shortest of them, of a model with so long a ``context``."""
    asked, numbers = state.requests, state.numbers
    shortest = int((asked[INPUT] + asked[OUTPUT]).argmin())
    prompt, tokens = (int(asked[one, shortest]) for one in (INPUT, OUTPUT))
    tokens += prompt
    blocks = most_held(state, tokens - 1, int(numbers[LOOK_AHEAD]))
    longest, most = int(numbers[LONGEST]), int(numbers[LEAST])
    said = f"workload: of all requests none is served: the shortest, of {counted(tokens, 'token')},"
    if longest < tokens <= context:
        what = f"is longer than the {longest:,} that the scheduler ever takes with its keys; write "
        what += "shorter lengths, or keys that take longer requests (max_model_len, slot_context), "
        what += "let prompts come in pieces, or take more tokens at once"
    elif tokens > longest:
        what = f"is longer than the model's context of {longest:,}; write shorter lengths"
    elif blocks > most:
        what = f"needs {counted(blocks, 'block')} of keys and values of {most:,} that there are; "
        what += "write more memory.kv, fewer slots for experts, or shorter lengths"
    elif prompt > (step := int(numbers[LONGEST_PROMPT])):
        what = f"has a prompt of {prompt:,}, and a step takes {step:,}; write shorter lengths, or "
        what += "more max_num_batched_tokens"
    else:
        what = "never comes"
    return f"{said} {what}"
