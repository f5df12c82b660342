"""Experiments whose requests a scheduler like vLLM's serves, and what plays each of them: both
engines, whose scheduler is the package's, and the reference, whose scheduler is the judge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.engine.case import Case as EngineCase
from moesim.workload.rows import Runs
from moesim.workload.serving.requests.requests import ServedRequests
from moesim.workload.serving.run import Serving
from moesim.workload.serving.stepping.cycles import ENDLESS_RUN, STEPS_A_TOKEN

from .judge_serving import Judge, Told
from .reference_batches import Part, Pass, Request, Scheduler
from .reference_words import DECODE, MIXED, PREFILL
from .serving_cases import (
    ServingCase,
    asked_of,
    judge_of,
    of_vllm,
    room_of,
    times_of,
    vllm_of,
)
from .strategies import Case, cases, needs_exceed_slots
from .test_scheduler import all_agree, without_foresight
from .wiring import engine_case

Decided = tuple[int, int, list[Told]]
"""When a step starts at the earliest, how long before the host is at it, and its entries."""


def serving_of(theirs: EngineCase, case: ServingCase) -> Serving:
    """Token j of request i has row i + j, round and round."""
    asked = asked_of(case)
    tokens = asked.input_tokens + asked.output_tokens - 1
    begin = np.concatenate(([0], np.cumsum(tokens)))
    number = np.arange(len(tokens))
    every = np.full_like(number, theirs.trace.tokens)
    runs = Runs(begin[:-1], 0 * number, every, number, 0 * number)
    served = ServedRequests(asked, number, begin, runs)
    room, times, gpus = room_of(case), times_of(case), theirs.gpus
    return Serving(served, vllm_of(case.settings), room, gpus, clockless=False, times=times)


def owner(case: ServingCase, number: int, token: int) -> int:
    """The request of a session that had the ``token`` of a prompt first, and says its row."""
    one = case.wishes[number]
    while one.after is not None:
        before = case.wishes[one.after]
        if token >= min(one.prompt, before.prompt + before.answer - 1):
            break
        number, one = one.after, before
    return number


def reference_scheduler(case: Case, serving: ServingCase, judge: Judge | None = None) -> Scheduler:
    """The steps of ``judge``, one of ``serving``, in the reference's words."""
    judge = judge or judge_of(serving)
    requests = [Request(one.number) for one in judge.requests]
    steps, ended = judge.decide(), None
    while True:
        try:
            told = next(steps) if ended is None else steps.send(ended)
        except StopIteration:
            return
        ended = max((yield [pass_of(case, serving, judge, requests, told)]))


def pass_of(
    case: Case, serving: ServingCase, judge: Judge, requests: list[Request], step: Decided
) -> Pass:
    """The last ``step`` of ``judge``, of ``requests``."""
    (start, host, batch), rows = step, len(case.trace["phase"])
    each, parts = case.config.gpus // serving.ranks, []
    for (number, first, count, gives), drafts in zip(batch, judge.drafted[-1], strict=True):
        one = judge.requests[number]
        decodes = count == 1 + drafts and gives > 0 and first >= one.prompt
        wrong = drafts + 1 - gives if gives else 0
        tokens = range(first, first + count)
        places = [(owner(serving, number, k) + k) % rows for k in tokens]
        gpu = one.rank * each + judge.seats[number] % each
        parts.append(Part(requests[number], gpu, places, wrong, first, decodes, gives))
    kinds = {part.decodes for part in parts}
    phase = MIXED if len(kinds) > 1 else DECODE if True in kinds else PREFILL
    return Pass(len(judge.steps) - 1, phase, parts, start, host)


@st.composite
def served_by_vllm(draw: st.DrawFn) -> tuple[Case, ServingCase]:
    """Of two in three the blocks are few for long answers, beside others: some are preempted."""
    case = without_foresight(draw(cases() | cases(prompts=True)))
    assume(not any(layer.stack == "encoder" for layer in case.model.layers))
    serving, tight = draw(of_vllm()), draw(st.sampled_from([True, True, False]))
    gpus = case.config.gpus
    ranks = draw(st.sampled_from([n for n in (1, 2, 3, 4) if gpus % n == 0]))
    scale = draw(st.sampled_from([1, 100]))  # arrivals within a step, or over some
    wishes = [
        replace(one, comes=None if one.comes is None else scale * one.comes)
        for one in serving.wishes
    ]
    wishes *= 2 if tight and len(wishes) == 1 else 1
    if tight and all(one.after is None for one in wishes):
        wishes = [replace(one, answer=max(one.answer, 18 - one.prompt)) for one in wishes]
    longest = max(one.prompt + one.answer for one in wishes) + serving.settings.ahead
    least = -(-longest // serving.size) * len(serving.settings.windows)
    room = least if tight else None if serving.blocks is None else max(serving.blocks, least)
    settings = replace(serving.settings, most=max(serving.settings.most, 1 + tight))
    served = replace(serving, settings=settings, wishes=wishes, blocks=room)
    return case, replace(served, ranks=ranks, longest=None)


class Seen(NamedTuple):
    """What a case had in it."""

    preempted: int
    exceeds: bool
    endless: bool


def agree_on_served(case: Case, serving: ServingCase) -> Seen:
    """Plays the case in all ways."""
    theirs, judge = engine_case(case), judge_of(serving)
    served = serving_of(theirs, serving)
    theirs = replace(theirs, scheduler=served.passes, serving=served)
    try:
        verdict = all_agree(theirs, case, reference_scheduler(case, serving, judge))
    except InputError as error:
        if ENDLESS_RUN not in str(error) or not never_ends(serving):
            raise
        return Seen(0, False, True)
    preempted = sum(one.preemptions for one in judge.requests)
    return Seen(preempted, needs_exceed_slots(case, verdict), False)


def never_ends(serving: ServingCase) -> bool:
    """Whether the judge goes on with more steps than the package lets pass."""
    tokens = sum(one.prompt + one.answer for one in serving.wishes)
    steps = judge_of(serving).decide()
    now, *_ = next(steps)
    for _ in range(2 * STEPS_A_TOKEN * tokens):
        try:
            now, *_ = steps.send(now + 7)
        except StopIteration:
            return False
    return True
