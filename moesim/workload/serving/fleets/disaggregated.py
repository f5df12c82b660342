"""Prompts on instances of their own: their keys and values go over a wire to those that decode."""

from __future__ import annotations

import zlib
from dataclasses import replace
from heapq import heappush

import numpy as np

from moesim.workload.schedule import Ints
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.blocks import blocks_of, hits_of, hold, keep_content, let_go, pin
from moesim.workload.serving.fleets.fleet import ARRIVES, STREAM, Fleet, entries_of
from moesim.workload.serving.fleets.pool import Pool
from moesim.workload.serving.fleets.wire import Roles, Sent
from moesim.workload.serving.state import (
    ARRIVAL,
    BLOCK_SIZE,
    CACHED,
    CHUNKS,
    COMPUTED,
    COUNT,
    ENDED,
    FREE,
    GIVEN,
    GIVES,
    HELD,
    KNOWN,
    LOOK_AHEAD,
    MEMORY,
    MOST,
    NONE,
    OUTPUT,
    RANK,
    READY,
    REJECTED,
    RUN,
    START,
    STATUS,
    WAIT_LAST,
    WHO,
    Asked,
    Room,
    State,
)
from moesim.workload.serving.stepping.clock import Server
from moesim.workload.serving.stepping.host import NO_TIME, HostTimes, after_step
from moesim.workload.serving.stepping.steps import Fill, seat, too_long

DECODE_STREAM = zlib.crc32(b"serving.disaggregation.router")
THERE, PART, HANDED = range(3)
"""What happens before requests arrive: one is there, a part can be sent, a prompt has ended."""


class Disaggregated(Fleet):
    """Instances that prefill, then those that decode, all of one kind (docs/serving.md)."""

    def __init__(
        self,
        asked: Asked,
        room: Room,
        scheduler: RequestScheduler,
        roles: Roles,
        times: HostTimes = NO_TIME,
        fill: Fill | None = None,
    ) -> None:
        self._begin(asked, room)
        self._roles, self._times = roles, times
        self._watermark = scheduler.watermark_blocks
        prompts = replace(room, loop=False, hands_over=True, drafts=0, look_ahead=0)
        answers = replace(room, loop=False, prefilled=True)
        whole = scheduler.model_copy(update={"reserve_full_isl": True})
        alone = self._alone()
        first = [Server(alone, prompts, whole, times, fill) for _ in range(roles.prefill)]
        last = [Server(alone, answers, scheduler, times, fill) for _ in range(roles.decode)]
        for server in first:
            server.state.requests[OUTPUT] = 1
        for server in last:
            _begin_behind(server.state, again=roles.again)
        self.servers = [*first, *last]
        streams = [np.random.default_rng([roles.seed, one]) for one in (STREAM, DECODE_STREAM)]
        self.pools = [
            Pool(first, roles.routers[0], streams[0]),
            Pool(last, roles.routers[1], streams[1], "serving.disaggregation.router"),
        ]
        self.silent = tuple(range(roles.prefill)) if roles.again else ()
        self.sent = Sent(*(np.full(asked.count, NONE) for _ in Sent._fields))
        self.sent.bytes[:] = 0
        self.arrived_ns = np.full(asked.count, NONE)
        self._done_until = np.zeros(asked.count, np.int64)  # tokens of each that are sent, or there
        self._lines: list[list[int]] = [[] for _ in last]
        self._leaving: list[list[int]] = [[] for _ in first]
        self._busy_until: dict[tuple[int, int], int] = {}  # of the cards of an instance's rank

    # what happens

    def _happens(self, instant: int, kind: int, request: int, *more: int) -> None:
        if kind == ARRIVES:
            self._arrives(instant, request)
        elif kind == HANDED:
            self._hand(instant, request)
        elif kind == PART:
            self._send(instant, request, more[1], last=bool(more[2]))
        else:
            self._there(instant, request)

    def _arrives(self, instant: int, request: int) -> None:
        roles, state = self._roles, self.servers[-1].state
        self.arrived_ns[request] = instant
        if too_long(state, request):
            self.servers[0].state.requests[STATUS, request] = REJECTED
            self._over(request, instant)
            return
        chosen = self.pools[0].choose(request, self._before(request, self.sent.prefill))
        self.sent.prefill[request] = chosen
        if roles.by_layer and (roles.again or self.asked.output_tokens[request] > 1):
            self.pools[0].coming[chosen] += 1
            self._hand(instant, request)
        else:
            self.servers[chosen].come(request, instant)

    def _hand(self, instant: int, request: int) -> None:
        """``request`` goes to one that decodes, to get blocks there."""
        first = self._roles.prefill
        chosen = self.pools[1].choose(
            request, max(NONE, self._before(request, self.replica) - first)
        )
        self.pools[1].coming[chosen] += 1
        self.replica[request] = first + chosen
        self._lines[chosen].append(request)
        self.servers[first + chosen].wake(instant)

    def _there(self, instant: int, request: int) -> None:
        self.sent.there_ns[request] = instant
        number, source = int(self.replica[request]), int(self.sent.prefill[request])
        server = self.servers[number]
        keep_content(server.state, request, 0, int(server.state.requests[COMPUTED, request]))
        self.pools[1].coming[number - self._roles.prefill] -= 1
        server.come(request, instant)
        self._leaving[source].append(request)
        self.servers[source].wake(instant)

    # what comes before decisions

    def _is_apart(self, number: int) -> bool:
        """See ``Fleet``: only of those that decode, while none waits for blocks there."""
        decodes = number - self._roles.prefill
        return decodes >= 0 and not self._lines[decodes] and super()._is_apart(number)

    def _decides(self, number: int, now: int) -> None:
        server = self.servers[number]
        server.see()
        if number >= self._roles.prefill:
            self._give_blocks(number, now)
            return
        ended = server.state.requests[STATUS] == ENDED
        for request in [one for one in self._leaving[number] if ended[one]]:
            let_go(server.state, request)
            self._leaving[number].remove(request)

    def _give_blocks(self, number: int, now: int) -> None:
        """Those that wait for blocks get them, in order, up to the first of a rank that has to wait
        on.
        """
        state, line = self.servers[number].state, self._lines[number - self._roles.prefill]
        full = set[int]()
        for request in list(line):
            if state.requests[RANK, request] == NONE:
                seat(state, request)
            rank = int(state.requests[RANK, request])
            if rank in full or not self._fits(state, request, rank):
                full.add(rank)
                continue
            line.remove(request)
            self._reserve(state, request, now)

    def _fits(self, state: State, request: int, rank: int) -> bool:
        last = state.ranks[WAIT_LAST, rank]
        if last != NONE and state.requests[HELD, last] == 0:
            return False  # whoever was preempted comes first
        hits, pinned = hits_of(state, request)
        tokens = state.requests[KNOWN, request] + state.numbers[LOOK_AHEAD]
        free = state.ranks[FREE, rank] - pinned
        if state.ranks[RUN, rank] > 0:
            free -= self._watermark(int(state.ranks[MEMORY, rank]))
        return bool(blocks_of(state, tokens) - hits <= free)

    def _reserve(self, state: State, request: int, now: int) -> None:
        """It takes its blocks; what lies there as a prefix need not be sent."""
        hits, _ = hits_of(state, request)
        pin(state, request, hits)
        hold(state, request, int(state.requests[KNOWN, request] + state.numbers[LOOK_AHEAD]))
        self.sent.blocks_ns[request] = now
        self._done_until[request] = found = hits * int(state.numbers[BLOCK_SIZE])
        if self._roles.by_layer:
            source = int(self.sent.prefill[request])
            self.pools[0].coming[source] -= 1
            self.servers[source].come(request, now)
            return
        tokens = int(self.asked.input_tokens[request])
        layers = self._roles.wire.layers
        self._send(now, request, sum(one.bytes_of(found, tokens, tokens) for one in layers))

    # what goes over the wire

    def _send(self, instant: int, request: int, amount: int, *, last: bool = True) -> None:
        """``amount`` bytes of each GPU, once the cards of both ends are free; first come, first
        served.
        """
        wire, ends = self._roles.wire, self._ends_of(request)
        begin = max(instant, *(self._busy_until.get(one, 0) for one in ends))
        end = begin + wire.busy_ns(amount)
        self._busy_until |= dict.fromkeys(ends, end)
        if self.sent.begin_ns[request] == NONE:
            self.sent.begin_ns[request] = begin
        self.sent.bytes[request] += amount * wire.gpus
        if last:
            heappush(self._coming, (end + wire.latency_ns, THERE, request))

    def _ends_of(self, request: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Instance and rank from which, and to which, it is sent."""
        both = (int(self.sent.prefill[request]), int(self.replica[request]))
        first, last = ((n, int(self.servers[n].state.requests[RANK, request])) for n in both)
        return first, last

    # what follows a step

    def _follow(self, number: int, start: int, ended: int) -> None:
        if number >= self._roles.prefill:
            super()._follow(number, start, ended)
            return
        state, roles = self.servers[number].state, self._roles
        entries = entries_of(state)[[WHO, START, COUNT, GIVES]].T.tolist()
        for who, first, count, gives in entries:
            if gives:
                self.sent.ended_ns[who] = ended
                self._gets(who, 0 if roles.again else 1, self._visible(number, ended))
            if not roles.again and self.asked.output_tokens[who] == 1:
                if gives:
                    self.replica[who] = number
                    self._leaving[number].append(who)
            elif roles.by_layer:
                self._send_layers(who, first + count, (start, ended), last=bool(gives))
            elif gives:
                seen = ended + after_step(self._times, len(entries))
                heappush(self._coming, (seen, HANDED, who))

    def _send_layers(self, request: int, until: int, span: tuple[int, int], *, last: bool) -> None:
        """Each layer's part of what is computed ``until`` now, when a pass has done the layer, as
        if all took equally long.
        """
        layers, (start, ended) = self._roles.wire.layers, span
        since, tokens = int(self._done_until[request]), int(self.asked.input_tokens[request])
        for number, layer in enumerate(layers):
            done = start + (number + 1) * (ended - start) // len(layers)
            final = last and number == len(layers) - 1
            amount = layer.bytes_of(since, until, tokens)
            if amount or final:
                heappush(self._coming, (done, PART, request, number, amount, int(final)))
        self._done_until[request] = max(since, until)

    def _requests(self, states: list[State]) -> Ints:
        """See ``Fleet``: pieces of prompts and what was found of them are of where they were
        computed.
        """
        requests = super()._requests(states)
        requests[OUTPUT] = states[-1].requests[OUTPUT]
        for number in range(self._roles.prefill):
            own = states[number].requests
            mine = (self.sent.prefill == number) & (self.replica >= self._roles.prefill)
            requests[CACHED, mine] = own[CACHED, mine]
            requests[CHUNKS, mine] += own[CHUNKS, mine]
        came = self.arrived_ns != NONE
        requests[ARRIVAL, came] = self.arrived_ns[came]
        return requests


def _begin_behind(state: State, *, again: bool) -> None:
    """Requests begin behind their prompts, or, ``again``, at the last token of these; whoever is
    preempted computes all of it.
    """
    requests = state.requests
    requests[READY] = 0
    if again:
        requests[[COMPUTED, MOST, KNOWN]] -= 1
        requests[GIVEN] = 0
