"""Replicas of an engine, and the router before them: one order of all that happens."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np

from moesim.workload.routers.base import Router
from moesim.workload.schedule import Ints
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.fleets.pool import Pool
from moesim.workload.serving.fleets.recent_experts import Experts
from moesim.workload.serving.requests.passes import shown_with
from moesim.workload.serving.state import (
    BEGIN,
    DECIDED,
    DROPS,
    GIVES,
    HITS,
    NEVER,
    NONE,
    PREEMPTIONS,
    QUERIES,
    RECOMPUTED,
    SEEN,
    SHOWN,
    SINCE,
    STEPS,
    WHEN_SEEN,
    WHO,
    Asked,
    Room,
    State,
)
from moesim.workload.serving.stepping.clock import Server
from moesim.workload.serving.stepping.host import NO_TIME, HostTimes
from moesim.workload.serving.stepping.steps import Fill, too_long, visible_at

STREAM = zlib.crc32(b"serving.router")
Turns = Generator[tuple[int, State, int, int], int, None]
"""Yields a replica and what its ``Server`` decided; is sent when that has ended on its GPUs."""
ARRIVES = 3
"""What happens last of what comes at one instant: a request arrives."""


class Routed(NamedTuple):
    """So many ``replicas``, the ``router`` before them, and the seed of its draws."""

    replicas: int
    router: Router
    seed: int = 0

    @property
    def instances(self) -> int:
        """How many engines there are."""
        return self.replicas


class Fleet:
    """Replicas that serve what is ``asked``, each in a ``room`` of its own (docs/serving.md).
    ``replica`` int64[n]: that of each request, -1: it has not come.
    """

    silent: tuple[int, ...] = ()
    """Replicas whose tokens no client gets."""

    def __init__(
        self,
        asked: Asked,
        room: Room,
        scheduler: RequestScheduler,
        routed: Routed,
        times: HostTimes = NO_TIME,
        fill: Fill | None = None,
    ) -> None:
        self._begin(asked, room)
        alone, kept = self._alone(), replace(room, loop=False)
        self.servers = [Server(alone, kept, scheduler, times, fill) for _ in range(routed.replicas)]
        stream = np.random.default_rng([routed.seed, STREAM])
        self.pools = [Pool(self.servers, routed.router, stream)]
        self._given += int(room.prefilled)

    def _begin(self, asked: Asked, room: Room) -> None:
        """Nobody has come."""
        self.asked, self.room = asked, room
        self.replica = np.full(asked.count, NONE)
        self._given = np.zeros(asked.count, np.int64)
        timed = np.flatnonzero(asked.arrival_ns != NEVER)
        self._coming: list[tuple[int, ...]] = [
            (int(asked.arrival_ns[one]), ARRIVES, int(one)) for one in timed
        ]
        heapify(self._coming)
        self._fresh = len(timed)
        self._order: list[tuple[int, int, int, int]] = []
        self._happened = 0
        self._seen: dict[int, int] = {}
        self._after = np.full(asked.count, NONE)
        later = np.flatnonzero(asked.follows >= 0)
        self._ends_tell = self.room.loop or bool(len(later))
        self._after[asked.follows[later]] = later

    def _alone(self) -> Asked:
        """What is asked of a server to which requests are sent."""
        nobody = np.full(self.asked.count, NEVER)
        return replace(self.asked, arrival_ns=nobody, follows=np.full(self.asked.count, NONE))

    def turns(self) -> Turns:
        """One step after another, of whichever replica decides first, of several the first; what
        happens at that instant, or before, happens first.
        """
        while True:
            number = min(range(len(self.servers)), key=lambda r: self.servers[r].due)
            server = self.servers[number]
            if self._coming and self._coming[0][0] <= server.due:
                self._tell(self._coming[0][0])
                self._happens(*heappop(self._coming))
                self._happened += 1
                continue
            if server.due == NEVER:
                return
            self._tell(server.due)
            self._decides(number, server.due)
            if (told := self._decided(number)) is None:
                continue
            ended = yield number, *told
            server.ended(ended)
            self._follow(number, told[1], ended)

    def _decided(self, number: int) -> tuple[State, int, int] | None:
        """What a replica decides, as ``Server.decide`` has it: until something may come from
        elsewhere, or what its steps end in, if that matters, it is decided at once.
        """
        server, until = self.servers[number], self._until(number)
        first, alone = int(server.state.numbers[STEPS]), server.due >= until
        told = server.decide(until)
        last = int(server.state.numbers[STEPS])
        decided = server.state.steps[DECIDED, first:last].tolist()
        self._order += [(now, self._happened, number, first + k) for k, now in enumerate(decided)]
        self._happened += alone
        ended = last - (told is not None)
        if ended > first:
            shown = shown_with(server.state, first, ended)
            np.add.at(self._given, *shown[[WHO, GIVES]])
        self._lose(number)
        return told

    def _lose(self, number: int) -> None:
        """Of the steps whose ends a replica has seen since, no client gets what was lost."""
        state, seen = self.servers[number].state, self._seen.get(number, 0)
        self._seen[number] = int(state.numbers[SEEN])
        if state.numbers[WHEN_SEEN]:
            low, high = state.steps[BEGIN, [seen, self._seen[number]]]
            np.subtract.at(self._given, *state.log[[WHO, DROPS], low:high])

    def _until(self, number: int) -> int:
        """The instant up to which what a replica decides follows from its own steps, and nothing
        else from these.
        """
        if not self._is_apart(number):
            return 0
        others = [one.due for k, one in enumerate(self.servers) if not self._is_apart(k)]
        tells = [pool.tells_at for pool in self.pools]
        return min(self._coming[0][0] if self._coming else NEVER, *others, *tells)

    def _is_apart(self, number: int) -> bool:
        """Whether nothing follows from when steps of a replica end."""
        del number
        return not self._ends_tell

    def order(self) -> list[tuple[int, int]]:
        """Replica and step of all steps in the order in which they were decided: at one instant
        those of the first replicas first, but for what happened in between.
        """
        return [(number, step) for _, _, number, step in sorted(self._order)]

    def _tell(self, now: int) -> None:
        for pool in self.pools:
            pool.tell(now)

    def _happens(self, instant: int, kind: int, request: int, *more: int) -> None:
        """What comes at an ``instant``: a request."""
        del kind, more
        chosen = self.pools[0].choose(request, self._before(request, self.replica))
        self.replica[request] = chosen
        server = self.servers[chosen]
        server.come(request, instant)
        if too_long(server.state, request) or self._has_all(request):
            self._over(request, instant)

    def _before(self, request: int, where: Ints) -> int:
        """``where`` the one before ``request`` in its session went."""
        before = int(self.asked.follows[request])
        return int(where[before]) if before >= 0 else NONE

    def _has_all(self, request: int) -> bool:
        return bool(self._given[request] == self.asked.output_tokens[request])

    @property
    def finished(self) -> int:
        """Requests that have all their tokens."""
        return int((self._given >= self.asked.output_tokens).sum())

    def sees(self, experts: Experts) -> None:
        """Its router may go by which of ``experts`` steps choose."""
        self.pools[0].sees(experts)

    def _decides(self, number: int, now: int) -> None:
        """Before a replica decides."""

    def _follow(self, number: int, start: int, ended: int) -> None:
        """What comes after the last step of a replica, from ``start`` to when it ``ended``."""
        del start
        state = self.servers[number].state
        step = int(state.numbers[STEPS]) - 1
        for who, gives in shown_with(state, step, step + 1)[[WHO, GIVES]].T.tolist():
            self._gets(who, gives, self._visible(number, ended))

    def _visible(self, number: int, ended: int) -> int:
        """When clients have the tokens of the last step of a replica, which ``ended`` then."""
        state = self.servers[number].state
        return visible_at(state, int(state.numbers[STEPS]) - 1, ended)

    def _gets(self, request: int, tokens: int, instant: int) -> None:
        """A client has so many more."""
        self._given[request] += tokens
        if tokens and self._has_all(request):
            self._over(request, instant)

    def _over(self, request: int, instant: int) -> None:
        if self.room.loop:
            if self._fresh < self.asked.count:
                comes = instant + self.room.think_ns + int(self.asked.think_ns[self._fresh])
                heappush(self._coming, (comes, ARRIVES, self._fresh))
                self._fresh += 1
        elif (after := int(self._after[request])) >= 0:
            heappush(self._coming, (instant + int(self.asked.think_ns[after]), ARRIVES, after))

    def state(self, turns: list[tuple[int, int]]) -> State:
        """All replicas' as one, with ``turns``, replica and step, one after the other: blocks are
        those of a single one.
        """
        states = [server.state for server in self.servers]
        numbers = states[0].numbers.copy()
        for one in states[1:]:
            for count in (PREEMPTIONS, RECOMPUTED, QUERIES, HITS):
                numbers[count] += one.numbers[count]
        numbers[STEPS] = len(turns)
        parts = [entries_of(states[number], step) for number, step in turns]
        sizes, log = [part.shape[1] for part in parts], np.concatenate(parts, axis=1)
        steps = np.stack([states[number].steps[:, step] for number, step in turns], axis=1)
        steps = np.concatenate((steps, np.zeros_like(steps[:, :1])), axis=1)
        steps[BEGIN] = steps[SINCE] = np.cumsum([0, *sizes])
        place, (number, step) = np.zeros((len(states), len(turns)), np.int64), np.array(turns).T
        place[number, step] = np.arange(len(turns))
        log[SHOWN] = place[np.repeat(number, sizes), log[SHOWN]]
        np.minimum.at(steps[SINCE], log[SHOWN], np.arange(log.shape[1]))
        return states[0]._replace(
            requests=self._requests(states),
            numbers=numbers,
            log=log,
            steps=steps,
            units=np.stack([states[number].units[:, step] for number, step in turns], axis=1),
        )

    def _requests(self, states: list[State]) -> Ints:
        """What has become of each request where it was, of others at the first."""
        requests = states[0].requests.copy()
        for number, one in enumerate(states):
            mine = self.replica == number
            requests[:, mine] = one.requests[:, mine]
        return requests


def entries_of(state: State, step: int = NONE) -> Ints:
    """The columns of the log that are of a ``step``, NONE: of the last."""
    step = int(state.numbers[STEPS]) - 1 if step == NONE else step
    low, high = state.steps[BEGIN, step : step + 2]
    return state.log[:, low:high]
