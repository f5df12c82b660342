"""A toy server, in the engine's words and in the reference's; they share no code but who comes.

Request i sits on GPU i modulo the GPUs and has ``prompt`` tokens and ``answers``. A pass takes of
each GPU at most ``budget`` tokens, of those that have come, in order: all that is not computed.
When all is, the pass gives a token. After some passes the last request that has computed something
forgets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from moesim.engine.case import Case as EngineCase
from moesim.workload.schedule import Schedule
from moesim.workload.served import Served
from moesim.workload.timetable import Passes
from moesim.workload.timetable import Scheduler as EngineScheduler

from .reference_batches import Part, Pass, Request, Scheduler
from .reference_words import DECODE, MIXED, PREFILL, Config
from .strategies import Case


@dataclass(frozen=True)
class Wish:
    """One request: when it comes, how long it is, and at which row of the trace its rows begin."""

    comes: int
    prompt: int
    answers: int
    row: int


@dataclass(frozen=True)
class Service:
    wishes: list[Wish]  # in order of arrival
    budget: int
    forgets: frozenset[int] = frozenset()  # after which passes
    lag: int = 0  # from a decision to the pass that it decides
    host: int = 0  # as long does the host work on a pass; more than the lag where it began before
    given: tuple[int, ...] = ()  # slots that experts have given up, by pass, over and over


# --- in the engine's words: columns


def server(theirs: EngineCase, service: Service) -> EngineScheduler:
    return partial(_serve, theirs, service)


def _serve(theirs: EngineCase, service: Service) -> Passes:
    wishes = service.wishes
    comes, prompt, answers, row = (
        np.array([getattr(one, name) for one in wishes])
        for name in ("comes", "prompt", "answers", "row")
    )
    gpu = np.arange(len(wishes)) % theirs.gpus
    computed, given = np.zeros_like(comes), np.zeros_like(comes)
    now = step = 0
    while (given < answers).any():
        live = given < answers
        if not (live & (comes <= now)).any():
            now = int(comes[live].min())
        todo = np.where(live & (comes <= now), prompt + given - computed, 0)
        for g in range(theirs.gpus):
            before = np.cumsum(np.where(gpu == g, todo, 0)) - np.where(gpu == g, todo, 0)
            todo = np.where(gpu == g, np.clip(service.budget - before, 0, todo), todo)
        request = np.repeat(np.arange(len(wishes)), todo)
        position = np.concatenate(
            [np.arange(c, c + n) for c, n in zip(computed, todo, strict=True)]
        )
        decodes = (given > 0) & (computed == prompt + given - 1)
        full = computed + todo == prompt + given
        served = Served(
            position, decodes[request], full[request] & (position == (computed + todo - 1)[request])
        )
        rows = (row[request] + position) % theirs.trace.tokens
        offsets, instant = np.array([0, len(rows)]), np.array([now + service.lag])
        tokens, host = (rows, gpu[request], request), np.array([service.host])
        slots = np.array(service.given or [0])[step % max(1, len(service.given))]
        gone = np.full((1, theirs.gpus), slots) if service.given else None
        ended = yield Schedule.serving(offsets, tokens, served, instant, host, given=gone)
        given += full & (todo > 0)
        computed += todo
        now = int(ended.max())
        if (
            step in service.forgets
            and (some := np.flatnonzero((computed > 0) & (given < answers))).size
        ):
            computed[some[-1]] = 0
        step += 1


# --- in the reference's: objects


@dataclass
class Client:
    wish: Wish
    gpu: int
    request: Request
    cached: int = 0
    said: list[int] = field(default_factory=list)  # the passes that gave tokens

    @property
    def known(self) -> int:
        return self.wish.prompt + len(self.said)

    @property
    def done(self) -> bool:
        return len(self.said) == self.wish.answers


def reference_server(case: Case, service: Service) -> Scheduler:
    config: Config = case.config
    clients = [
        Client(wish, number % config.gpus, Request(number))
        for number, wish in enumerate(service.wishes)
    ]
    tokens = len(case.trace["phase"])
    step = now = 0
    while left := [client for client in clients if not client.done]:
        now = max(now, min(client.wish.comes for client in left))
        room, parts, shown = [service.budget] * config.gpus, list[Part](), list[Client]()
        for client in left:
            size = min(room[client.gpu], client.known - client.cached)
            if client.wish.comes > now or size == 0:
                continue
            room[client.gpu] -= size
            last = client.cached + size == client.known
            rows = [(client.wish.row + client.cached + i) % tokens for i in range(size)]
            decodes = bool(client.said) and client.known - client.cached == 1
            parts.append(
                Part(client.request, client.gpu, rows, 0, client.cached, decodes, answers=last)
            )
            client.cached += size
            if last:
                client.said.append(step)
            shown.append(client)
        kinds = {part.decodes for part in parts}
        phase = MIXED if len(kinds) > 1 else DECODE if True in kinds else PREFILL
        slots = service.given[step % len(service.given)] if service.given else 0
        given = (slots,) * config.gpus if service.given else ()
        ended = yield [Pass(step, phase, parts, now + service.lag, service.host, given)]
        now = max(ended)
        started = [client for client in clients if client.cached and not client.done]
        if step in service.forgets and started:
            started[-1].cached = 0
        step += 1
