"""Whole schedules, as Vidur's schedulers decide them where their rules are vLLM V1's
(``verification.beside_vidur``, which keeps them): by the package's rules and by the judge.
"""

from __future__ import annotations

from typing import Any

import pytest

from moesim.workload.serving.state import PREEMPTED
from verification.vidur_workloads import differing, ours

from .judge_serving import Settings
from .kept_schedules import preemptions_told, steps_in, steps_told, told_by
from .serving_cases import ServingCase, Wish, judge_of

TOLD = told_by("vidur")["cases"]
CASES = pytest.mark.parametrize("case", TOLD, ids=lambda case: case["name"])


def serving_case(case: dict[str, Any]) -> ServingCase:
    limits = {name: case[name] for name in ("budget", "most", "watermark")}
    return ServingCase(
        wishes=[
            Wish(prompt, answer, comes, 0, None, 0, 0, 0)
            for prompt, answer, comes in case["requests"]
        ],
        blocks=case["blocks"],
        size=case["size"],
        settings=Settings(**limits, chunked=case["kind"] != "vllm", late=False),
    )


@CASES
def test_whole_schedules_are_those_of_vidur(case):
    state = ours(case)
    assert differing(steps_in(state), steps_told(case)) == 0
    assert state.requests[PREEMPTED].tolist() == preemptions_told(case)


@CASES
def test_the_judge_decides_as_vidur_does(case):
    judge = judge_of(serving_case(case))
    judge.run(lambda _: case["step"])
    entries = [[at, [[who, count] for who, _, count, _ in told]] for at, told in judge.steps]
    assert entries == steps_told(case)


def test_there_is_something_to_see():
    assert sum(sum(preemptions_told(case)) for case in TOLD) > 3
    limited = {case["name"]: len(case["steps"]) for case in TOLD}
    assert limited["few seats"] > limited["all at once"]


def test_steps_that_differ_are_counted():
    case = TOLD[0]
    told, state = steps_told(case), ours({**case, "most": 1})
    assert differing(steps_in(state), told) > len(told) // 2
    assert differing(told, told[:-2]) == 2
