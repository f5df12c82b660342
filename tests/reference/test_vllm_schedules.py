"""Whole schedules, as vLLM's own scheduler decides them (tests/data/schedules/make_vllm.py): by the
package's rules and by the judge.
"""

from __future__ import annotations

from typing import Any

import pytest

from moesim.workload.serving.state import PREEMPTED, State

from .judge_serving import Judge, Settings
from .kept_schedules import STEP, decided, preemptions_told, steps_in, steps_told, told_by
from .serving_cases import ServingCase, Wish, judge_of, vllm_of

TOLD = told_by("vllm")
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


def ours(case: dict[str, Any]) -> State:
    one = serving_case(case)
    return decided(one, vllm_of(one.settings))


def judged(case: dict[str, Any]) -> Judge:
    judge = judge_of(serving_case(case))
    for one in judge.requests:
        if one.after is not None:
            before, size = judge.requests[one.after], case["block_size"]
            shared = (before.prompt + before.answer) // size
            one.hashes[:shared] = before.hashes[:shared]
    judge.run(lambda _: STEP)
    return judge


@CASES
def test_whole_schedules_are_those_of_vllm(case):
    state = ours(case)
    assert steps_in(state) == steps_told(case)
    assert state.requests[PREEMPTED].tolist() == preemptions_told(case)


@CASES
def test_the_judge_decides_as_vllm_does(case):
    judge = judged(case)
    entries = [[at, [[who, count] for who, _, count, _ in told]] for at, told in judge.steps]
    assert entries == steps_told(case)
    assert [one.preemptions for one in judge.requests] == preemptions_told(case)


def test_there_is_something_to_see():
    gone = [sum(preemptions_told(case)) for case in TOLD["cases"]]
    assert len(gone) > 20
    assert sum(count > 0 for count in gone) > 8
