"""Prompts and answers on instances of their own, in plain words."""

from __future__ import annotations

import zlib
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from .judge_replicas import NEVER, Chooser, Play, Replica
from .judge_serving import Judge, Rank, Request, Settings, Step, Told


@dataclass
class Apart:
    """``layers``: of each the bytes of a token, and its window; ``rate``: bytes in 1000 ns."""

    prefill: int
    decode: int
    layers: list[tuple[int, int | None]]
    rate: int
    latency: int
    by_layer: bool
    again: bool


class PromptRank(Rank):
    """Blocks for the whole prompt at once; who has ended keeps them until they are sent."""

    def begin(self, request: Request, hits: int) -> None:
        super().begin(request, hits)
        self.grow(request, request.prompt)

    def release(self, request: Request) -> None:
        pass

    def sent(self, request: Request) -> None:
        super().release(request)


class DecodeJudge(Judge):
    """Those that have blocks wait in front, and find nothing."""

    def join(self, now: int) -> None:
        self.coming.sort(key=lambda r: (r.arrival, r.number))
        while self.coming and self.coming[0].arrival <= now:  # type: ignore[operator]
            request = self.coming.pop(0)
            self.put(self.ranks[request.rank], request, front=True)

    def put(self, rank: Rank, request: Request, *, front: bool) -> None:
        request.state = "waiting"
        with_blocks = 0
        while with_blocks < len(rank.waiting) and rank.waiting[with_blocks].blocks:
            with_blocks += 1
        rank.waiting.insert(with_blocks, request)

    def admit(self, step: Step) -> None:
        rank, settings = step.rank, self.settings
        while rank.waiting and rank.waiting[0].blocks:
            request = rank.waiting[0]
            rest = request.known - request.computed
            if step.budget == 0 or len(rank.running) == settings.most:
                return
            if not settings.chunked and min(rest, step.threshold or rest) > step.budget:
                return
            rank.waiting.remove(request)
            rank.running.append(request)
            request.state = "running"
            step.add(request, step.most(rest))
        super().admit(step)


class Disaggregated:
    """``order``: (instance, decided, entries) of all steps. By request: ``source`` and ``where`` it
    was, and ``sent``: the end of its prompt, when it had blocks, when its first byte left, when all
    was there, and its bytes.
    """

    def __init__(
        self,
        requests: list[Request],
        settings: Settings,
        apart: Apart,
        routers: list[tuple[str, int]],
        seed: int,
    ) -> None:
        self.requests, self.settings, self.apart = requests, settings, apart
        first = replace(settings, loop=False, whole=True, drafts=0, ahead=0)
        self.prefill = [Replica(self.judge(Judge, first)) for _ in range(apart.prefill)]
        self.decode = [
            Replica(self.judge(DecodeJudge, replace(settings, loop=False)))
            for _ in range(apart.decode)
        ]
        blocks = len(self.prefill[0].judge.ranks[0].users)  # where there is no limit, its own
        for one in self.prefill:
            one.judge.ranks = [PromptRank(first, blocks) for _ in range(settings.ranks)]
            for request in one.judge.requests:
                request.answer = 1
        for one in self.decode:
            for request in one.judge.requests:
                behind = request.prompt - apart.again
                request.known, request.computed, request.ever = behind + 1, behind, behind
                request.given = 0 if apart.again else 1
        self.routers = [
            Chooser(pool, router, np.random.default_rng([seed, zlib.crc32(name)]))
            for pool, router, name in zip(
                (self.prefill, self.decode),
                routers,
                (b"serving.router", b"serving.disaggregation.router"),
                strict=True,
            )
        ]
        # at one instant: who is there, parts, prompts that have ended, arrivals
        self.events: list[tuple[int, int, int, list[int]]] = []
        for r in requests:
            if r.arrival is not None:
                self.events.append((r.arrival, 3, r.number, []))
        self.fresh = [r.number for r in requests if r.arrival is None and r.after is None]
        self.source: dict[int, int] = {}
        self.where: dict[int, int] = {}
        self.sent = {r.number: [-1, -1, -1, -1, 0] for r in requests}
        self.reached = {r.number: 0 for r in requests}
        self.given = [0] * len(requests)
        self.lines: list[list[int]] = [[] for _ in self.decode]
        self.leaving: list[list[int]] = [[] for _ in self.prefill]
        self.cards: dict[tuple[int, int], int] = {}
        self.order: list[tuple[int, int, list[Told]]] = []

    def judge(self, kind: type[Judge], settings: Settings) -> Judge:
        judge = kind(deepcopy(self.requests), settings)
        judge.coming, judge.fresh = [], []
        for one in judge.requests:
            one.arrival, one.after = None, None
        return judge

    def run(self, play: Play) -> None:
        every = [*self.prefill, *self.decode]
        while True:
            due = min(one.due for one in every)
            event = min(self.events, default=(NEVER, 0, 0, []))
            now = min(event[0], due)
            if now == NEVER:
                return
            for router in self.routers:
                router.tell(now)
            if event[0] <= due:
                self.events.remove(event)
                instant, kind, request, more = event
                if kind == 0:
                    self.is_there(instant, request)
                elif kind == 1:
                    self.send(instant, request, more[1], last=bool(more[2]))
                elif kind == 2:
                    self.hand(instant, request)
                else:
                    self.arrives(instant, request)
                continue
            number = next(r for r, one in enumerate(every) if one.due == due)
            self.decides(number, every[number], play)

    def wake(self, replica: Replica, now: int) -> None:
        if replica.waits:
            replica.due = min(replica.due, max(replica.last, now))

    def arrives(self, instant: int, request: int) -> None:
        asked, settings, pool = self.requests[request], self.settings, self.decode[0].judge.ranks[0]
        tokens = asked.prompt + asked.answer
        long = settings.longest is not None and tokens > settings.longest
        if long or pool.need(tokens - 1 + settings.ahead) > pool.blocks:
            self.over(request, instant)
            return
        before = None if asked.after is None else self.source.get(asked.after)
        chosen = self.routers[0].chosen(request, before)
        self.source[request] = chosen
        if self.apart.by_layer and (self.apart.again or asked.answer > 1):
            self.routers[0].beside[chosen] += 1
            self.hand(instant, request)
        else:
            self.comes(self.prefill[chosen], request, instant)

    def comes(self, replica: Replica, request: int, instant: int) -> None:
        mine = replica.judge.requests[request]
        mine.arrival = instant
        replica.judge.coming.append(mine)
        if replica.waits:
            replica.wait_for_arrival()

    def hand(self, instant: int, request: int) -> None:
        after = self.requests[request].after
        chosen = self.routers[1].chosen(request, None if after is None else self.where.get(after))
        self.routers[1].beside[chosen] += 1
        self.where[request] = chosen
        self.lines[chosen].append(request)
        self.wake(self.decode[chosen], instant)

    def is_there(self, instant: int, request: int) -> None:
        self.sent[request][3] = instant
        chosen = self.where[request]
        judge = self.decode[chosen].judge
        mine = judge.requests[request]
        judge.ranks[mine.rank].remember(mine, mine.computed)
        self.routers[1].beside[chosen] -= 1
        self.comes(self.decode[chosen], request, instant)
        self.leaving[self.source[request]].append(request)
        self.wake(self.prefill[self.source[request]], instant)

    def decides(self, number: int, replica: Replica, play: Play) -> None:
        for _ in range(replica.sees):
            replica.judge.see()
        if number < len(self.prefill):
            self.free(number)
        else:
            self.reserve(number - len(self.prefill), replica.due)
        if not (batch := replica.turn()):
            return
        self.order.append((number, replica.due, batch))
        start, end = replica.start(play, number, batch)
        if number < len(self.prefill):
            self.prompts(number, batch, start, end)
            return
        for who, _, _, gives in batch:
            self.gets(who, gives, end + Judge.host(self.settings.after, batch))

    def gets(self, request: int, tokens: int, seen: int) -> None:
        self.given[request] += tokens
        if tokens and self.given[request] == self.requests[request].answer:
            self.over(request, seen + self.settings.visible)

    def free(self, number: int) -> None:
        judge = self.prefill[number].judge
        for request in list(self.leaving[number]):
            mine = judge.requests[request]
            if mine.state == "ended":
                rank = judge.ranks[mine.rank]
                assert isinstance(rank, PromptRank)
                rank.sent(mine)
                self.leaving[number].remove(request)

    def reserve(self, number: int, now: int) -> None:
        judge, settings = self.decode[number].judge, self.settings
        stuck = set()
        for request in list(self.lines[number]):
            mine = judge.requests[request]
            if mine.rank < 0:
                mine.rank = self.rank_of(judge, mine)
                judge.seats[mine.number] = sum(
                    judge.requests[one].rank == mine.rank for one in judge.seats
                )
            rank = judge.ranks[mine.rank]
            hits = rank.hits(mine)
            free = len(rank.free) - rank.evictable(mine, hits)
            free -= int(settings.watermark * rank.blocks) if rank.running else 0
            preempted = any(not one.blocks for one in rank.waiting)
            tokens = mine.known + settings.ahead
            if mine.rank in stuck or preempted or rank.need(tokens) - hits > free:
                stuck.add(mine.rank)
                continue
            rank.take_found(mine, hits)
            rank.grow(mine, tokens)
            self.lines[number].remove(request)
            self.sent[request][1] = now
            self.reached[request] = hits * settings.size
            if self.apart.by_layer:
                self.routers[0].beside[self.source[request]] -= 1
                self.comes(self.prefill[self.source[request]], request, now)
            else:
                every = [self.amount(layer, request, mine.prompt) for layer in self.apart.layers]
                self.send(now, request, sum(every), last=True)

    def rank_of(self, judge: Judge, mine: Request) -> int:
        order = [(judge.turn + k) % len(judge.ranks) for k in range(len(judge.ranks))]
        judge.turn = (judge.turn + 1) % len(judge.ranks)
        load = [4 * len(r.waiting) + len(r.running) for r in judge.ranks]
        if self.settings.by_prefix:
            hits = [rank.hits(mine) for rank in judge.ranks]
            order = [k for k in order if hits[k] == max(hits)]
        return order[0] if self.settings.round_robin else min(order, key=lambda k: load[k])

    def amount(self, layer: tuple[int, int | None], request: int, until: int) -> int:
        """Bytes of the layer of tokens that are not there up to ``until``."""
        each, window = layer
        prompt = self.requests[request].prompt
        tokens = [k for k in range(self.reached[request], until)
                  if window is None or k >= prompt - window]  # fmt: skip
        return each * len(tokens)

    def prompts(self, number: int, batch: list[Told], start: int, end: int) -> None:
        seen = end + Judge.host(self.settings.after, batch)
        for who, first, count, gives in batch:
            if gives:
                self.sent[who][0] = end
                self.gets(who, 0 if self.apart.again else 1, seen)
            if self.requests[who].answer == 1 and not self.apart.again:
                if gives:
                    self.leaving[number].append(who)
            elif self.apart.by_layer:
                self.parts(who, first + count, (start, end), last=bool(gives))
            elif gives:
                self.events.append((seen, 2, who, []))

    def parts(self, who: int, until: int, span: tuple[int, int], *, last: bool) -> None:
        layers, (start, end) = self.apart.layers, span
        for k, layer in enumerate(layers):
            amount, final = self.amount(layer, who, until), last and k == len(layers) - 1
            if amount or final:
                done = start + (k + 1) * (end - start) // len(layers)
                self.events.append((done, 1, who, [k, amount, int(final)]))
        self.reached[who] = max(self.reached[who], until)

    def send(self, instant: int, request: int, amount: int, *, last: bool) -> None:
        ends = [
            (0, self.source[request], self.prefill[self.source[request]].judge),
            (1, self.where[request], self.decode[self.where[request]].judge),
        ]
        cards = [(role * 100 + n, judge.requests[request].rank) for role, n, judge in ends]
        begin = max(instant, *(self.cards.get(card, 0) for card in cards))
        end = begin + -(-amount * 1000 // self.apart.rate)
        for card in cards:
            self.cards[card] = end
        if self.sent[request][2] < 0:
            self.sent[request][2] = begin
        self.sent[request][4] += amount
        if last:
            self.events.append((end + self.apart.latency, 0, request, []))

    def over(self, request: int, instant: int) -> None:
        if self.settings.loop:
            if self.fresh:
                comes = instant + self.settings.think + self.requests[self.fresh[0]].think
                self.events.append((comes, 3, self.fresh.pop(0), []))
            return
        for other in self.requests:
            if other.after == request:
                self.events.append((instant + other.think, 3, other.number, []))
