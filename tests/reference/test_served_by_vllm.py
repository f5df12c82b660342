"""Runs whose passes a scheduler like vLLM's decides as the clock goes: both engines, whose
scheduler is the package's, and the reference, whose scheduler is the judge, to the nanosecond.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.workload.rows import Runs
from moesim.workload.serving.cycles import ENDLESS_RUN, STEPS_A_TOKEN
from moesim.workload.serving.requests import ServedRequests
from moesim.workload.serving.run import Serving

from .judge_serving import Settings
from .reference_batches import Part, Pass, Request, Scheduler
from .reference_words import DECODE, MIXED, PREFILL
from .serving_cases import (
    ServingCase,
    Wish,
    asked_of,
    judge_of,
    of_vllm,
    room_of,
    times_of,
    vllm_of,
)
from .strategies import Case, cases
from .test_scheduler import all_agree, without_foresight
from .wiring import engine_case


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


def reference_scheduler(case: Case, serving: ServingCase) -> Scheduler:
    """The judge's steps in the reference's words."""
    judge, gpus = judge_of(serving), case.config.gpus
    requests = [Request(one.number) for one in judge.requests]
    rows, each = len(case.trace["phase"]), gpus // serving.ranks
    steps, ended = judge.decide(), None
    while True:
        try:
            start, host, batch = next(steps) if ended is None else steps.send(ended)
        except StopIteration:
            return
        parts = []
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
        told = yield [Pass(len(judge.steps) - 1, phase, parts, start, host)]
        ended = max(told)


@given(cases() | cases(prompts=True), of_vllm(), st.data())
def test_both_engines_and_the_reference_serve_alike(case, serving, data):
    case = without_foresight(case)
    assume(not any(layer.stack == "encoder" for layer in case.model.layers))
    gpus = case.config.gpus
    tight = data.draw(st.booleans())  # few blocks for long answers: requests are preempted
    ranks = 1 if tight else data.draw(st.sampled_from([n for n in (1, 2, 3, 4) if gpus % n == 0]))
    scale = data.draw(st.sampled_from([1, 100]))  # arrivals within a step, or over some
    wishes = [
        replace(one, comes=None if one.comes is None else scale * one.comes)
        for one in serving.wishes
    ]
    if tight and all(one.after is None for one in wishes):
        wishes = [replace(one, answer=max(one.answer, 18 - one.prompt)) for one in wishes]
    longest = max(one.prompt + one.answer for one in wishes) + serving.settings.ahead
    least = -(-longest // serving.size)
    room = least if tight else None if serving.blocks is None else max(serving.blocks, least)
    serving = replace(serving, ranks=ranks, wishes=wishes, blocks=room, longest=None)
    theirs = engine_case(case)
    served = serving_of(theirs, serving)
    theirs = replace(theirs, scheduler=served.passes, serving=served)
    try:
        all_agree(theirs, case, reference_scheduler(case, serving))
    except InputError as error:
        if ENDLESS_RUN not in str(error) or not never_ends(serving):
            raise


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


@settings(max_examples=3)
@given(cases())
def test_who_preempts_each_other_for_ever_is_told(case):
    """Of one instant and one priority, in chunks of two tokens: they take turns."""
    case = without_foresight(case)
    wishes = [Wish(6, 6, 0, 0, None, 0, 0, 0), Wish(7, 6, 0, 0, None, 0, 0, 0)]
    asked = Settings(budget=19, most=2, threshold=2, priority=True, ahead=4, late=True)
    serving = ServingCase(wishes, blocks=8, size=3, settings=asked)
    assert never_ends(serving)
    served = serving_of(engine_case(case), serving)
    theirs = replace(engine_case(case), scheduler=served.passes, serving=served)
    for play in (run_des, run_replay):
        with pytest.raises(InputError, match="preempt each other for ever"):
            play(theirs)
