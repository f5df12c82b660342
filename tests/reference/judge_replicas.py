"""Replicas of the judge's scheduler, and routers, in plain words."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from .judge_serving import Judge, Request, Settings, Told

NEVER = 1 << 62
Play = Callable[[int, int, int, list[Told]], int]
"""When a replica ends a step that starts no earlier than an instant, so long before which the host
is at it, with its entries."""


@dataclass
class Replica:
    judge: Judge
    due: int = 0
    sees: int = 0  # so many ends before it decides
    waits: bool = False  # for an arrival, from ``last`` on
    idle: bool = True  # the host, before the step that it decides: it waited for what had not come
    last: int = 0
    gone: int = 0  # preemptions before it decided last

    def wait(self, now: int) -> None:
        """When to decide again, after there was nothing to schedule ``now``."""
        judge, again = self.judge, self.judge.gone() > self.gone
        self.gone = judge.gone()
        if judge.seen < len(judge.steps):
            self.due, self.sees, self.idle = max(now, judge.seen_at(judge.seen)), 1, False
        elif not again:
            self.waits, self.last = True, now
            self.wait_for_arrival()

    def wait_for_arrival(self) -> None:
        instants = [r.arrival for r in self.judge.coming if r.arrival is not None]
        self.due = max(self.last, min(instants)) if instants else NEVER

    def start(self, play: Play, number: int, batch: list[Told]) -> tuple[int, int]:
        """The step that is decided as it is due: when it starts at the earliest, and its end."""
        judge, now, late = self.judge, self.due, self.judge.settings.late
        judge.steps.append((now, batch))
        before, host = judge.ends[-1] if judge.ends else 0, judge.host(judge.settings.before, batch)
        start = max(before, now + host)
        end = play(number, start, start - (now if self.idle else before), batch)
        judge.ends.append(end)
        self.gone, seen = judge.gone(), max(judge.seen, len(judge.steps) - late)
        self.sees, self.idle = seen - judge.seen, False
        self.due = max(judge.seen_at(seen - 1) if seen else 0, now + late * host)
        return start, end

    def turn(self) -> list[Told]:
        """What is scheduled as it is due."""
        self.idle = self.idle or (self.waits and self.due > self.last)
        self.sees, self.waits = 0, False
        if not (batch := self.judge.schedule(self.due)):
            self.wait(self.due)
        return batch

    def counts(self) -> tuple[int, int]:
        waiting = sum(len(rank.waiting) for rank in self.judge.ranks) + len(self.judge.coming)
        return waiting, sum(len(rank.running) for rank in self.judge.ranks)


@dataclass
class Experts:
    """``choices`` of a token of a request, by layer; ``slots`` of each layer."""

    choices: Callable[[int, int], list[list[int]]]
    slots: list[int]


class Chooser:
    """A router before ``replicas`` that tell what they have every ``interval``; ``beside`` of each
    are requests that were sent there, and that it does not know yet.
    """

    def __init__(
        self, replicas: list[Replica], choose: tuple[str, int], stream: np.random.Generator
    ) -> None:
        self.replicas, self.stream, (self.choose, self.interval) = replicas, stream, choose
        self.told = [(0, 0)] * len(replicas)
        self.beside = [0] * len(replicas)
        self.published, self.number = -1, 0
        self.experts: Experts | None = None
        self.used: list[list[list[list[int]]]] = []

    def tell(self, now: int) -> None:
        if self.interval and now // self.interval == self.published:
            return
        self.published = now // self.interval if self.interval else -1
        counts = [one.counts() for one in self.replicas]
        beside = zip(counts, self.beside, strict=True)
        self.told = [(waiting + more, running) for (waiting, running), more in beside]

    def chosen(self, request: int, before: int | None) -> int:
        every, choose = list(range(len(self.replicas))), self.choose
        load = [waiting + running for waiting, running in self.told]
        uneven = max(load) - min(load) > 2 and max(load) > 1.5 * min(load)
        if choose == "round_robin":
            every = [self.number % len(every)]
        if choose == "random":
            every = [int(self.stream.integers(len(every)))]
        if choose == "power_of_two":
            every = self.stream.permutation(len(every))[:2].tolist()
        if choose == "vllm":
            load = [4 * waiting + running for waiting, running in self.told]
        if choose == "session" and before is not None:
            every = [before]
        if choose == "prefix" and not uneven:
            most = max(self.cached(r, request) for r in every)
            every = [r for r in every if self.cached(r, request) == most]
        if choose == "expert" and max(load) - min(load) <= 2:
            overlap = [self.overlap(r, request) for r in every]
            every = [r for r in every if overlap[r] == max(overlap)]
        found = min(every, key=lambda r: load[r])
        self.number += 1
        waiting, running = self.told[found]
        self.told[found] = (waiting + 1, running)
        return found

    def uses(self, replica: int, batch: list[Told]) -> None:
        """``used``: by replica, step and layer what its tokens chose."""
        if self.experts is None:
            return
        self.used = self.used or [[] for _ in self.replicas]
        tokens = [(who, first + k) for who, first, count, _ in batch for k in range(count)]
        self.used[replica].append([
            [e for one in tokens for e in self.experts.choices(*one)[layer]]
            for layer in range(len(self.experts.slots))
        ])  # fmt: skip

    def held(self, replica: int, layer: int) -> list[int]:
        """From the last step back those of most tokens first, as many as there are slots."""
        assert self.experts is not None
        found: list[int] = []
        for step in reversed(self.used[replica]) if self.used else ():
            for one in sorted(set(step[layer]), key=lambda e: (-step[layer].count(e), e)):
                found += [] if one in found else [one]
        return found[: self.experts.slots[layer]]

    def overlap(self, replica: int, request: int) -> int:
        assert self.experts is not None
        prompt = self.replicas[replica].judge.requests[request].prompt
        return sum(
            e in self.held(replica, layer)
            for token in range(prompt)
            for layer in range(len(self.experts.slots))
            for e in self.experts.choices(request, token)[layer]
        )

    def cached(self, replica: int, request: int) -> int:
        judge = self.replicas[replica].judge
        return max(rank.hits(judge.requests[request]) for rank in judge.ranks)


class Replicas:
    """``choose``: the router; ``interval``: how often replicas tell what they have. ``order``:
    (replica, decided, entries) of all steps; ``where`` each request went.
    """

    def __init__(
        self,
        requests: list[Request],
        settings: Settings,
        count: int,
        choose: tuple[str, int],
        seed: int,
        make: Callable[[list[Request], Settings], Judge] = Judge,
    ) -> None:
        self.settings = settings
        self.replicas = []
        for _ in range(count):
            judge = make(deepcopy(requests), replace(settings, loop=False))
            judge.coming, judge.fresh = [], []
            for one in judge.requests:
                one.arrival, one.after = None, None
            self.replicas.append(Replica(judge))
        self.requests = requests
        self.coming = [(r.arrival, r.number) for r in requests if r.arrival is not None]
        self.fresh = [r.number for r in requests if r.arrival is None and r.after is None]
        self.where: dict[int, int] = {}
        self.given = [0] * len(requests)
        stream = np.random.default_rng([seed, zlib.crc32(b"serving.router")])
        self.router = Chooser(self.replicas, choose, stream)
        self.order: list[tuple[int, int, list[Told]]] = []

    def run(self, play: Play) -> None:
        while True:
            due = min(one.due for one in self.replicas)
            first = min(self.coming, default=(NEVER, 0))
            if first[0] <= due and first[0] < NEVER:
                self.router.tell(first[0])
                self.coming.remove(first)
                self.route(*first)
            elif due == NEVER:
                return
            else:
                self.router.tell(due)
                number = next(r for r, one in enumerate(self.replicas) if one.due == due)
                self.decide(number, play)

    def route(self, instant: int, request: int) -> None:
        before = self.requests[request].after
        chosen = self.router.chosen(request, None if before is None else self.where[before])
        self.where[request] = chosen
        replica = self.replicas[chosen]
        judge = replica.judge
        mine = judge.requests[request]
        mine.arrival = instant
        judge.coming.append(mine)
        if replica.waits:
            replica.wait_for_arrival()
        tokens, settings, pool = mine.prompt + mine.answer, self.settings, judge.ranks[0]
        long = settings.longest is not None and tokens > settings.longest
        if long or pool.held_at_most(tokens - 1) > pool.blocks:
            self.over(request, instant)

    def decide(self, number: int, play: Play) -> None:
        replica = self.replicas[number]
        for _ in range(replica.sees):
            replica.judge.see()
        if not (batch := replica.turn()):
            return
        self.router.uses(number, batch)
        self.order.append((number, replica.due, batch))
        replica.start(play, number, batch)
        step = len(replica.judge.steps) - 1
        visible = replica.judge.seen_at(step) + self.settings.visible
        for who, gives in replica.judge.shows(step):
            self.given[who] += gives
            if self.given[who] == self.requests[who].answer:
                self.over(who, visible)

    def over(self, request: int, instant: int) -> None:
        if self.settings.loop:
            if self.fresh:
                comes = instant + self.settings.think + self.requests[self.fresh[0]].think
                self.coming.append((comes, self.fresh.pop(0)))
            return
        for other in self.requests:
            if other.after == request:
                self.coming.append((instant + other.think, other.number))
