"""Replicas of an engine, and the router before them: one order of all that happens."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np

from moesim.config.errors import InputError
from moesim.config.registry import kind_of
from moesim.workload.routers.base import Router, Seen
from moesim.workload.schedule import Ints
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.blocks import hits_of
from moesim.workload.serving.clock import NO_TIME, HostTimes, Server
from moesim.workload.serving.state import (
    BEGIN,
    BLOCK_SIZE,
    GIVEN,
    GIVES,
    HITS,
    NEVER,
    NEXT,
    NONE,
    OUTPUT,
    PREEMPTIONS,
    QUERIES,
    QUEUED,
    RANK,
    RECOMPUTED,
    RUN,
    STEPS,
    VISIBLE,
    WAIT,
    WHO,
    Asked,
    Room,
    State,
)
from moesim.workload.serving.steps import Decide, too_long

STREAM = zlib.crc32(b"serving.router")
Turns = Generator[tuple[int, State, int, int], int, None]
"""Yields a replica and what its ``Server`` decided; is sent when that has ended on its GPUs."""


class Routed(NamedTuple):
    """So many ``replicas``, the ``router`` before them, and the seed of its draws."""

    replicas: int
    router: Router
    seed: int = 0


class Fleet:
    """Replicas that serve what is ``asked``, each in a ``room`` of its own (docs/serving.md).
    ``replica`` int64[n]: that of each request, -1: it has not come.
    """

    def __init__(
        self,
        asked: Asked,
        room: Room,
        scheduler: RequestScheduler,
        routed: Routed,
        times: HostTimes = NO_TIME,
        decide: Decide | None = None,
    ) -> None:
        nobody = np.full(asked.count, NEVER)
        alone = replace(asked, arrival_ns=nobody, follows=np.full(asked.count, NONE))
        kept = replace(room, loop=False)
        self.servers = [
            Server(alone, kept, scheduler, times, decide) for _ in range(routed.replicas)
        ]
        self.asked, self.room, self.router = asked, room, routed.router
        self.replica = np.full(asked.count, NONE)
        self._stream = np.random.default_rng([routed.seed, STREAM])
        self._given = self.servers[0].state.requests[GIVEN].copy()
        timed = np.flatnonzero(asked.arrival_ns != NEVER)
        self._coming = [(int(asked.arrival_ns[one]), int(one)) for one in timed]
        heapify(self._coming)
        self._fresh, self._number, self._told_until = len(timed), 0, 0
        self._after = np.full(asked.count, NONE)
        later = np.flatnonzero(asked.follows >= 0)
        self._after[asked.follows[later]] = later
        self._told = np.zeros((2, routed.replicas), np.int64)

    def turns(self) -> Turns:
        """One step after another, of whichever replica decides first, of several the first; who
        comes at that instant, or before, is routed first.
        """
        while True:
            number = min(range(len(self.servers)), key=lambda r: self.servers[r].due)
            server = self.servers[number]
            if self._coming and self._coming[0][0] <= server.due:
                self._tell(self._coming[0][0])
                self._route(*heappop(self._coming))
                continue
            if server.due == NEVER:
                return
            self._tell(server.due)
            if (told := server.decide()) is None:
                continue
            ended = yield number, *told
            server.ended(ended)
            self._follow(server.state, ended)

    def _tell(self, now: int) -> None:
        """Replicas tell what they have, if it is time, before what happens ``now``."""
        interval = round(self.router.stats_interval)
        if interval and now < self._told_until:
            return
        self._told_until = (now // interval + 1) * interval if interval else 0
        for number, server in enumerate(self.servers):
            state = server.state
            queued = state.numbers[QUEUED] - state.numbers[NEXT]
            self._told[:, number] = state.ranks[WAIT].sum() + queued, state.ranks[RUN].sum()

    def _route(self, instant: int, request: int) -> None:
        before = int(self.asked.follows[request])
        seen = Seen(
            number=self._number,
            waiting=self._told[0].copy(),
            running=self._told[1].copy(),
            cached=self._cached(request),
            before=int(self.replica[before]) if before >= 0 else NONE,
        )
        chosen = self.router.choose(seen, self._stream)
        if not 0 <= chosen < len(self.servers):
            what = f"'{kind_of(type(self.router))}' chose replica {chosen} of {len(self.servers)}"
            raise InputError(f"serving.router: {what}")
        self.replica[request] = chosen
        self._number += 1
        self._told[0, chosen] += 1
        server = self.servers[chosen]
        server.come(request, instant)
        if too_long(server.state, request) or self._given[request] == self._outputs[request]:
            self._over(request, instant)

    @property
    def _outputs(self) -> Ints:
        outputs: Ints = self.servers[0].state.requests[OUTPUT]
        return outputs

    def _cached(self, request: int) -> Ints:
        """Tokens of its prompt int64[replicas] in blocks that can be found, of the best rank."""
        found = np.zeros(len(self.servers), np.int64)
        if not self.router.reads_prefixes:
            return found
        for number, server in enumerate(self.servers):
            state = server.state
            for rank in range(state.ranks.shape[1]):
                state.requests[RANK, request] = rank
                hits = hits_of(state, request)[0] * int(state.numbers[BLOCK_SIZE])
                found[number] = max(found[number], hits)
            state.requests[RANK, request] = NONE
        return found

    def _follow(self, state: State, ended: int) -> None:
        """What comes after the ends of requests in the last step of a replica."""
        step = int(state.numbers[STEPS]) - 1
        low, high = state.steps[BEGIN, step : step + 2]
        for who, gives in state.log[[WHO, GIVES], low:high].T.tolist():
            self._given[who] += gives
            if gives and self._given[who] == self._outputs[who]:
                self._over(who, ended + int(state.numbers[VISIBLE]))

    def _over(self, request: int, instant: int) -> None:
        if self.room.loop:
            if self._fresh < self.asked.count:
                heappush(self._coming, (instant + self.room.think_ns, self._fresh))
                self._fresh += 1
        elif (after := int(self._after[request])) >= 0:
            heappush(self._coming, (instant + int(self.asked.think_ns[after]), after))

    def state(self, turns: list[tuple[int, int]]) -> State:
        """All replicas' as one, with ``turns``, replica and step, one after the other: blocks are
        those of a single one.
        """
        states = [server.state for server in self.servers]
        requests, numbers = states[0].requests.copy(), states[0].numbers.copy()
        for number, one in enumerate(states):
            mine = self.replica == number
            requests[:, mine] = one.requests[:, mine]
            for count in (PREEMPTIONS, RECOMPUTED, QUERIES, HITS):
                numbers[count] += one.numbers[count] if number else 0
        numbers[STEPS] = len(turns)
        parts = [_entries(states[number], step) for number, step in turns]
        begins = np.cumsum([0, *(part.shape[1] for part in parts)])
        steps = np.stack([states[number].steps[:, step] for number, step in turns], axis=1)
        steps = np.concatenate((steps, np.zeros_like(steps[:, :1])), axis=1)
        steps[BEGIN] = begins
        return states[0]._replace(
            requests=requests,
            numbers=numbers,
            log=np.concatenate(parts, axis=1),
            steps=steps,
            units=np.stack([states[number].units[:, step] for number, step in turns], axis=1),
        )


def _entries(state: State, step: int) -> Ints:
    """The columns of the log that are of a ``step``."""
    low, high = state.steps[BEGIN, step : step + 2]
    return state.log[:, low:high]
