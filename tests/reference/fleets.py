"""Replicas, and instances for prompts and for answers, on machines: both engines, whose fleet is
the package's, and the reference, one for each of them, which the judge leads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np

from moesim.config.errors import InputError
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.engine.replicas import play_replicas
from moesim.workload.serving.fleets.fleet import Routed
from moesim.workload.serving.fleets.wire import Roles
from moesim.workload.serving.state import DECIDED
from moesim.workload.serving.stepping.cycles import ENDLESS_RUN, STEPS_A_TOKEN

from .agreement import assert_same, compare, observed
from .judge_disaggregated import Disaggregated
from .judge_replicas import Experts, Play, Replica, Replicas
from .judge_serving import Told
from .reference import reference
from .reference_batches import Pass, Request, Scheduler
from .reference_words import NO_EXPERT, Verdict
from .served_by_vllm import owner, pass_of, serving_of
from .serving_cases import ServingCase
from .strategies import Case
from .wiring import engine_case


class Machine:
    """The reference, in a thread of its own: it plays passes that somebody else decides."""

    def __init__(self, case: Case, count: int) -> None:
        self.case, self.requests = case, [Request(number) for number in range(count)]
        self.verdict: Verdict | None = None
        self._passes: Queue[Pass | None] = Queue()
        self._ends: Queue[int | BaseException] = Queue()
        self._thread: Thread | None = None

    def _coming(self) -> Scheduler:
        while (one := self._passes.get()) is not None:
            self._ends.put(max((yield [one])))

    def _run(self) -> None:
        case = self.case
        try:
            self.verdict = reference(
                case.trace, case.model, case.config, case.prices, self._coming()
            )
        except BaseException as error:  # noqa: BLE001 (raised again by who waits)
            self._ends.put(error)

    def end_of(self, one: Pass) -> int:
        self._passes.put(one)
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        ended = self._ends.get()
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def finish(self) -> Verdict | None:
        """What it says of all passes; None: it had none."""
        self._passes.put(None)
        if self._thread is not None:
            self._thread.join()
            assert self.verdict is not None, self._ends.get()
        return self.verdict


class NeverEndsError(Exception):
    """Requests preempt each other again and again."""


Judges = Replicas | Disaggregated


def replicas_of(judges: Judges) -> list[Replica]:
    return judges.replicas if isinstance(judges, Replicas) else [*judges.prefill, *judges.decode]


def judged(case: Case, serving: ServingCase, judges: Judges) -> list[Verdict | None]:
    """What the reference says of each replica, or instance."""
    machines = [Machine(case, len(serving.wishes)) for _ in replicas_of(judges)]
    longest = 2 * STEPS_A_TOKEN * sum(one.prompt + one.answer for one in serving.wishes)

    def play(number: int, start: int, host: int, batch: list[Told]) -> int:
        machine, judge = machines[number], replicas_of(judges)[number].judge
        if len(judge.steps) > longest:
            raise NeverEndsError
        told = (start, host, batch)
        return machine.end_of(pass_of(case, serving, judge, machine.requests, told))

    run: Callable[[Play], None] = judges.run
    try:
        run(play)
    finally:
        verdicts = [one.finish() for one in machines]
    return verdicts


def experts_of(case: Case, theirs: EngineCase, serving: ServingCase) -> Experts:
    """What tokens choose, for a router that asks."""
    ids, slots = case.trace["expert_ids"], theirs.slots
    both = slots.max(axis=0) if theirs.slices > 1 else slots.sum(axis=0)

    def choices(request: int, token: int) -> list[list[int]]:
        row = (owner(serving, request, token) + token) % len(ids)
        return [[one for one in layer if one != NO_EXPERT] for layer in ids[row]]

    return Experts(choices, np.minimum(both, theirs.trace.metadata.experts).tolist())


def agree_on_fleet(
    case: Case, serving: ServingCase, routed: Routed | Roles, judges: Judges
) -> None:
    """Plays the case in all ways; one that never ends says so in all."""
    theirs = engine_case(case)
    served = replace(serving_of(theirs, serving), routed=routed)
    theirs = replace(theirs, scheduler=served.passes, serving=served)
    if isinstance(judges, Replicas):
        judges.router.experts = experts_of(case, theirs, serving)
    try:
        played = _played(theirs, partial(run_des, records="layer", check=True))
    except InputError as error:
        if ENDLESS_RUN not in str(error):
            raise
        try:
            judged(case, serving, judges)
        except NeverEndsError:
            return
        raise
    verdicts = judged(case, serving, judges)
    outcomes, turns, decided = played
    assert decided == [(number, now) for number, now, _ in judges.order]
    again, *others = _played(theirs, run_replay)
    assert others == [turns, decided]
    for verdict, outcome, other in zip(verdicts, outcomes, again, strict=True):
        _same(theirs, verdict, outcome, other)


def _played(theirs: EngineCase, play: Any) -> tuple[list[Outcome | None], Any, Any]:
    """Outcomes, turns, and who decided a step when."""
    outcomes, turns, case = play_replicas(theirs, play)
    assert case.serving is not None, "requests are served"
    fleet = case.serving.after_all
    assert fleet is not None, "there are replicas"
    decided = [(who, int(fleet.servers[who].state.steps[DECIDED, step])) for who, step in turns]
    return outcomes, turns, decided


def _same(
    theirs: EngineCase, verdict: Verdict | None, outcome: Outcome | None, other: Outcome | None
) -> None:
    if verdict is None or outcome is None or other is None:
        assert (verdict, outcome, other) == (None, None, None)
        return
    alone = replace(theirs, schedule=outcome.schedule, serving=None)
    compare(verdict, observed(alone, outcome))
    assert_same(other, outcome)
