"""Schedules of engines' own schedulers that are kept (tests/data/schedules), and the package's."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.requests.prefixes import session_contents
from moesim.workload.serving.state import BEGIN, COUNT, DECIDED, STEPS, WHO, Asked, State
from moesim.workload.serving.stepping.clock import steps_of

from .serving_cases import ServingCase, Wish, asked_of, room_of
from .step_times import with_step_times

STEP = 10
"""Ticks that a step takes."""


def told_by(engine: str) -> Any:
    path = Path(__file__).parents[1] / "data" / "schedules" / f"{engine}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def serving_case(case: dict[str, Any]) -> ServingCase:
    wishes = [
        Wish(prompt, answer, comes if after is None else None, 0, after, think, shares, family)
        for prompt, answer, comes, family, shares, after, think in case["requests"]
    ]
    return ServingCase(
        wishes=wishes,
        blocks=case["blocks"],
        size=case["block_size"],
        caches=case["prefix_caching"],
    )


def _asked(case: ServingCase) -> Asked:
    """In sessions a prompt begins with the prompt and the answer before it."""
    served = asked_of(case)
    if all(one.after is None for one in case.wishes):
        return served
    return replace(served, contents=session_contents(served, case.size))


def decided(case: ServingCase, scheduler: RequestScheduler) -> State:
    steps = steps_of(_asked(case), room_of(case), scheduler)
    return with_step_times(steps, lambda *_: STEP)


def steps_in(state: State) -> list[list[Any]]:
    steps = state.steps[:, : state.numbers[STEPS] + 1]
    return [
        [int(steps[DECIDED, number]), state.log[[WHO, COUNT], low:high].T.tolist()]
        for number, (low, high) in enumerate(pairwise(steps[BEGIN].tolist()))
    ]


def steps_told(case: dict[str, Any]) -> list[list[Any]]:
    return [step[:2] for step in case["steps"] if step[1]]


def preemptions_told(case: dict[str, Any]) -> list[int]:
    gone = [one for step in case["steps"] for one in step[2]]
    return [gone.count(number) for number in range(len(case["requests"]))]
