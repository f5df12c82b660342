"""Whole schedules, as vLLM's own scheduler decides them (tests/data/schedules/make_vllm.py): by the
package's rules and by the judge.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from moesim.workload.serving.requests.prefixes import session_contents
from moesim.workload.serving.state import (
    BEGIN,
    COUNT,
    DECIDED,
    PREEMPTED,
    STEPS,
    WHO,
    Asked,
    State,
)
from moesim.workload.serving.stepping.clock import steps_of, with_step_times

from .judge_serving import Judge, Settings
from .serving_cases import ServingCase, Wish, asked_of, judge_of, room_of, vllm_of

DATA = Path(__file__).parents[1] / "data" / "schedules" / "vllm.json"
TOLD = json.loads(DATA.read_text(encoding="utf-8"))
CASES = pytest.mark.parametrize("case", TOLD["cases"], ids=lambda case: case["name"])
SETTINGS = {
    "max_num_batched_tokens": "budget",
    "max_num_seqs": "most",
    "enable_chunked_prefill": "chunked",
    "long_prefill_token_threshold": "threshold",
    "reserve_full_isl": "whole",
    "watermark": "watermark",
    "async_scheduling": "late",
}
STEP = 10


def serving_case(case: dict[str, Any]) -> ServingCase:
    wishes = [
        Wish(
            prompt=prompt,
            answer=answer,
            comes=comes if after is None else None,
            priority=priority,
            after=after,
            think=think,
            shares=shares,
            family=family,
        )
        for prompt, answer, comes, priority, family, shares, after, think in case["requests"]
    ]
    rules: dict[str, Any] = {mine: case["scheduler"][theirs] for theirs, mine in SETTINGS.items()}
    return ServingCase(
        wishes=wishes,
        blocks=case["blocks"],
        size=case["block_size"],
        caches=case["prefix_caching"],
        settings=Settings(
            **rules,
            priority=case["scheduler"]["policy"] == "priority",
            windows=tuple(case.get("windows", [None])),
            times=tuple(case.get("times", ())),
            inside=case.get("inside", False),
        ),
    )


def asked(case: dict[str, Any]) -> Asked:
    """In sessions a prompt begins with the prompt and the answer before it."""
    served = asked_of(serving_case(case))
    if all(one.after is None for one in serving_case(case).wishes):
        return served
    return replace(served, contents=session_contents(served, case["block_size"]))


def decided(case: dict[str, Any]) -> State:
    one = serving_case(case)
    steps = steps_of(asked(case), room_of(one), vllm_of(one.settings))
    return with_step_times(steps, lambda *_: STEP)


def steps_in(state: State) -> list[list[Any]]:
    steps = state.steps[:, : state.numbers[STEPS] + 1]
    return [
        [int(steps[DECIDED, number]), state.log[[WHO, COUNT], low:high].T.tolist()]
        for number, (low, high) in enumerate(pairwise(steps[BEGIN].tolist()))
    ]


def judged(case: dict[str, Any]) -> Judge:
    judge = judge_of(serving_case(case))
    for one in judge.requests:
        if one.after is not None:
            before, size = judge.requests[one.after], case["block_size"]
            shared = (before.prompt + before.answer) // size
            one.hashes[:shared] = before.hashes[:shared]
    judge.run(lambda _: STEP)
    return judge


def theirs(case: dict[str, Any]) -> list[list[Any]]:
    return [step[:2] for step in case["steps"] if step[1]]


def preemptions(case: dict[str, Any]) -> list[int]:
    gone = [one for step in case["steps"] for one in step[2]]
    return [gone.count(number) for number in range(len(case["requests"]))]


@CASES
def test_whole_schedules_are_those_of_vllm(case):
    state = decided(case)
    assert steps_in(state) == theirs(case)
    assert state.requests[PREEMPTED].tolist() == preemptions(case)


@CASES
def test_the_judge_decides_as_vllm_does(case):
    judge = judged(case)
    entries = [[at, [[who, count] for who, _, count, _ in told]] for at, told in judge.steps]
    assert entries == theirs(case)
    assert [one.preemptions for one in judge.requests] == preemptions(case)


def test_there_is_something_to_see():
    gone = [sum(preemptions(case)) for case in TOLD["cases"]]
    assert len(gone) > 20
    assert sum(count > 0 for count in gone) > 8
