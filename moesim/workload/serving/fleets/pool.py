"""Engines that share requests, as the router before them sees them."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from moesim.config.registry import answering, wrong_answer
from moesim.workload.routers.base import Router, Seen, fault_of_choice
from moesim.workload.schedule import Ints
from moesim.workload.serving.blocks import hits_of
from moesim.workload.serving.fleets.recent_experts import Experts, RecentExperts
from moesim.workload.serving.state import BLOCK_SIZE, NEVER, NEXT, NONE, QUEUED, RANK, RUN, WAIT
from moesim.workload.serving.stepping.clock import Server


class Pool:
    """``servers`` behind a ``router``, which the experiment has at ``key``. ``coming``
    int64[servers]: requests that were sent to each, and are not at its scheduler yet.
    """

    def __init__(
        self, servers: list[Server], router: Router, stream: Generator, key: str = "serving.router"
    ) -> None:
        self.servers, self.coming = servers, np.zeros(len(servers), np.int64)
        self._router, self._stream, self._key = router, stream, key
        self._number, self._told_until = 0, 0
        self._told = np.zeros((2, len(servers)), np.int64)
        self._recent: RecentExperts | None = None

    def sees(self, experts: Experts) -> None:
        """Its router sees which ``experts`` are used, if it asks for that."""
        if self._router.reads_experts:
            self._recent = RecentExperts(experts, len(self.servers))

    @property
    def tells_at(self) -> int:
        """When they tell next what they have, NEVER where they do whenever one is asked for."""
        return self._told_until if round(self._router.stats_interval) else NEVER

    def tell(self, now: int) -> None:
        """They tell what they have, if it is time, before what happens ``now``."""
        interval = round(self._router.stats_interval)
        if interval and now >= self._told_until:
            self._told_until = (now // interval + 1) * interval
            self._look()

    def _look(self) -> None:
        for number, server in enumerate(self.servers):
            state = server.state
            queued = state.numbers[QUEUED] - state.numbers[NEXT] + self.coming[number]
            self._told[:, number] = state.ranks[WAIT].sum() + queued, state.ranks[RUN].sum()

    def choose(self, request: int, before: int) -> int:
        """Where ``request`` goes; ``before``: where the one before it in its session went, NONE
        without.
        """
        if self.tells_at == NEVER:
            self._look()
        seen = Seen(
            number=self._number,
            waiting=self._told[0].copy(),
            running=self._told[1].copy(),
            cached=self._cached(request),
            before=before,
            overlap=self._overlap(request),
        )
        with answering(self._key, self._router):
            chosen = self._router.choose(seen, self._stream)
        if fault := fault_of_choice(chosen, len(self.servers)):
            raise wrong_answer(self._key, self._router, fault)
        self._number += 1
        self._told[0, chosen] += 1
        return chosen

    def _overlap(self, request: int) -> Ints | None:
        if self._recent is None:
            return None
        for number, server in enumerate(self.servers):
            self._recent.see(number, server.state)
        return self._recent.overlap(request, self.servers[0].state)

    def _cached(self, request: int) -> Ints:
        """Tokens of its prompt int64[servers] in blocks that can be found, of the best rank."""
        found = np.zeros(len(self.servers), np.int64)
        if not self._router.reads_prefixes:
            return found
        for number, server in enumerate(self.servers):
            state = server.state
            for rank in range(state.ranks.shape[1]):
                state.requests[RANK, request] = rank
                hits = hits_of(state, request)[0] * int(state.numbers[BLOCK_SIZE])
                found[number] = max(found[number], hits)
            state.requests[RANK, request] = NONE
        return found
