"""Toy schedulers, each in the engine's words and in the reference's; the two share no code.

``in_parts`` yields a run that is known beforehand a few passes at a time. ``arriving`` seats the
requests that have come by the time at which it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import numpy as np

from moesim.engine.case import Case as EngineCase
from moesim.trace.routing import Phase
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule
from moesim.workload.timetable import Passes
from moesim.workload.timetable import Scheduler as EngineScheduler

from .reference_batches import (
    Pass,
    Request,
    Scheduler,
    add_decode_step,
    add_pass,
    add_prompts,
    go_astray,
    passes_of,
    requests_of,
    speculate,
)
from .reference_words import DECODE, ENCODE, Config
from .strategies import Case


def in_parts(schedule: Schedule, cuts: list[int]) -> EngineScheduler:
    """Passes up to each of ``cuts``, ascending, then the rest."""

    def passes() -> Passes:
        for first, last in pairwise([0, *cuts, schedule.passes]):
            yield schedule.between(first, last)

    return passes


def reference_in_parts(case: Case, cuts: list[int], not_before: list[int]) -> Scheduler:
    passes = passes_of(case.trace, case.config)
    for one, instant in zip(passes, not_before, strict=True):
        one.not_before = instant
    for first, last in pairwise([0, *cuts, len(passes)]):
        yield passes[first:last]


@dataclass(frozen=True)
class Arrivals:
    """When requests come, ascending; ``of``: which of the GPUs' ends is now (min or max);
    ``waits``: whether the passes of a decision wait for its instant.
    """

    instants: list[int]
    of: Callable[[list[int]], int] = max
    waits: bool = True


# --- in the engine's words


@dataclass
class Batch:
    """Who sits where: ``seated`` by slot, the request's number or -1, and decode tokens done."""

    theirs: EngineCase
    chunk: int | None
    rows: dict[tuple[int, int], list[int]]
    seated: list[int]
    done: list[int]
    passes: list[tuple[int, list[tuple[int, int, int]]]] = field(default_factory=list)

    def seat(self, number: int, slot: int) -> None:
        self.seated[slot], self.done[slot] = number, 0

    def tokens(self, slots: list[int], phase: int) -> Iterator[tuple[int, int, int]]:
        for slot in slots:
            for row in self.rows.get((self.seated[slot], phase), []):
                yield slot, row, self.seated[slot]

    def prompts(self, slots: list[int]) -> None:
        if encoded := list(self.tokens(slots, Phase.ENCODE)):
            self.passes.append((Phase.ENCODE, encoded))
        parts: dict[int, list[tuple[int, int, int]]] = {}
        before = [0] * self.theirs.gpus
        for token in self.tokens(slots, Phase.PREFILL):
            gpu = token[0] % self.theirs.gpus
            parts.setdefault(before[gpu] // self.chunk if self.chunk else 0, []).append(token)
            before[gpu] += 1
        self.passes += [(Phase.PREFILL, parts[number]) for number in sorted(parts)]

    def decode(self) -> None:
        step = []
        for slot, number in enumerate(self.seated):
            rows = self.rows.get((number, Phase.DECODE), [])
            if self.done[slot] < len(rows):
                step.append((slot, rows[self.done[slot]], number))
                self.done[slot] += 1
            if self.done[slot] == len(rows):
                self.seated[slot] = -1
        if step:
            self.passes.append((Phase.DECODE, step))

    def taken(self, instant: int) -> Schedule:
        passes, self.passes = self.passes, []
        tokens = np.array([token for _, of in passes for token in of], np.int64)
        return Schedule(
            offsets=np.cumsum([0, *(len(of) for _, of in passes)]),
            rows=tokens[:, 1],
            gpu=tokens[:, 0] % self.theirs.gpus,
            request=tokens[:, 2],
            phase=np.array([phase for phase, _ in passes], np.uint8),
            not_before_ns=np.array([instant, *[0] * (len(passes) - 1)]),
        )


def arriving(theirs: EngineCase, case: Case, arrivals: Arrivals) -> EngineScheduler:
    requests = Requests.of(theirs.trace, case.config.phase)  # type: ignore[arg-type]
    return partial(_arriving, theirs, case, arrivals, requests)


def _arriving(theirs: EngineCase, case: Case, arrivals: Arrivals, requests: Requests) -> Passes:
    rows: dict[tuple[int, int], list[int]] = {}
    for row, number in zip(requests.rows.tolist(), requests.request.tolist(), strict=True):
        rows.setdefault((number, int(theirs.trace.phase[row])), []).append(row)
    size = case.config.batch_size
    batch = Batch(theirs, case.config.chunk, rows, [-1] * size, [0] * size)
    now = following = 0
    while following < requests.count or max(batch.seated) >= 0:
        if max(batch.seated) < 0:
            now = max(now, arrivals.instants[following])
        free = [slot for slot in range(size) if batch.seated[slot] < 0]
        come = sum(instant <= now for instant in arrivals.instants[: requests.count])
        taken = free[: come - following]
        for slot in taken:
            batch.seat(following, slot)
            following += 1
        batch.prompts(taken)
        batch.decode()
        ended = yield batch.taken(now if arrivals.waits else 0)
        now = arrivals.of(ended.tolist())


# --- in the reference's


def reference_arriving(case: Case, arrivals: Arrivals) -> Scheduler:
    config, passes = case.config, list[Pass]()
    # the instants of requests beyond those that run are for nobody
    requests = requests_of(case.trace, config.phase)
    for request in requests:
        speculate(request, [], replace(config, drafts=0, chances=()))
        go_astray(request, [], replace(config, rejected="continuation"))
    waiting = list(zip(requests, arrivals.instants, strict=False))
    slots: list[Request | None] = [None] * config.batch_size
    decoded = [0] * config.batch_size
    now = 0
    while waiting or any(slots):
        if not any(slots):
            now = max(now, waiting[0][1])
        before = len(passes)
        new: list[Request | None] = [None] * config.batch_size
        for slot in range(config.batch_size):
            if slots[slot] is None and waiting and waiting[0][1] <= now:
                slots[slot] = new[slot] = waiting.pop(0)[0]
                decoded[slot] = 0
        add_passes(passes, new, slots, decoded, config)
        if arrivals.waits:
            passes[before].not_before = now
        ended = yield passes[before:]
        now = arrivals.of(ended)


def add_passes(
    passes: list[Pass],
    new: list[Request | None],
    slots: list[Request | None],
    decoded: list[int],
    config: Config,
) -> None:
    """What the new ones bring, then one decode step; who has no more to decode leaves."""
    decodes = config.phase in ("all", "decode")
    if config.phase in ("all", "encode"):
        add_pass(passes, ENCODE, new, config)
    if config.phase in ("all", "prefill"):
        add_prompts(passes, new, config)
    if decodes:
        add_decode_step(passes, slots, decoded, config)
    for slot, request in enumerate(slots):
        decoded[slot] += 1
        if request is not None and not (decodes and decoded[slot] < len(request.rows[DECODE])):
            slots[slot] = None
