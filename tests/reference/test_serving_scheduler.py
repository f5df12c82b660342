"""The scheduler's rules, plain and compiled, against a judge that shares nothing with them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings

from moesim.workload.serving.clock import played, steps_of, with_step_times
from moesim.workload.serving.state import (
    ARRIVAL,
    BEGIN,
    CACHED,
    CHUNKS,
    COUNT,
    DECIDED,
    END,
    ENDED,
    HITS,
    NEVER,
    PREEMPTED,
    QUERIES,
    RECOMPUTED,
    REJECTED,
    STATUS,
    STEPS,
    VERIFIES,
    State,
)
from moesim.workload.serving.steps import decided_with

from .judge_serving import Judge
from .serving_cases import ServingCase, asked_of, judge_of, of_vllm, room_of, times_of, vllm_of

STATES = {"ended": ENDED, "rejected": REJECTED}


def told(state: State) -> list[tuple[int, list[tuple[int, ...]]]]:
    steps = state.steps[:, : state.numbers[STEPS] + 1]
    return [
        (
            int(steps[DECIDED, number]),
            [tuple(entry) for entry in state.log[:VERIFIES, low:high].T.tolist()],
        )
        for number, (low, high) in enumerate(pairwise(steps[BEGIN].tolist()))
    ]


def verified(state: State) -> list[list[int]]:
    begins = state.steps[BEGIN, : state.numbers[STEPS] + 1].tolist()
    return [state.log[VERIFIES, low:high].tolist() for low, high in pairwise(begins)]


def step_time(tokens: int) -> int:
    return 5 + 2 * tokens


def play(case: ServingCase, *, plain: bool) -> State | None:
    """None: every request is rejected."""
    scheduler = vllm_of(case.settings)
    decide = decided_with(scheduler.rule()) if plain else None
    steps = steps_of(asked_of(case), room_of(case), scheduler, times_of(case), decide)

    def time_of(state: State, step: int) -> int:
        low, high = state.steps[BEGIN, step : step + 2]
        return step_time(int(state.log[COUNT, low:high].sum()))

    try:
        return with_step_times(steps, time_of)
    except StopIteration:
        return None


def judged(case: ServingCase) -> Judge:
    judge = judge_of(case)
    judge.run(lambda entries: step_time(sum(count for _, _, count, _ in entries)))
    return judge


def check(case: ServingCase, *, plain: bool) -> None:
    state, judge = play(case, plain=plain), judged(case)
    if state is None:
        assert not judge.steps
        return
    assert told(state) == judge.steps
    assert verified(state) == judge.drafted
    assert state.steps[END, : state.numbers[STEPS]].tolist() == judge.ends
    own = (state.numbers[RECOMPUTED], state.numbers[QUERIES], state.numbers[HITS])
    assert own == (judge.recomputed, judge.queries, judge.hit_tokens)
    for row, name in ((PREEMPTED, "preemptions"), (CHUNKS, "chunks"), (CACHED, "cached")):
        assert state.requests[row].tolist() == [getattr(one, name) for one in judge.requests]
    assert state.requests[STATUS].tolist() == [STATES[one.state] for one in judge.requests]
    came = [NEVER if one.arrival is None else one.arrival for one in judge.requests]
    assert state.requests[ARRIVAL].tolist() == came


@settings(max_examples=300)
@given(case=of_vllm())
def test_the_rules_decide_as_the_judge_does(case):
    check(case, plain=True)


@given(case=of_vllm())
def test_so_do_the_compiled_rules(case):
    check(case, plain=False)


@given(case=of_vllm())
def test_where_no_clock_matters_it_does_not(case):
    """The scheduler alone, whose clock is the number of the step, decides the same batches."""
    clockless = [one for one in case.wishes if one.after is None and one.comes in (None, 0)]
    if len(clockless) < len(case.wishes) or (case.loop and case.think):
        return
    state = play(case, plain=False)
    if state is None:
        return
    alone = played(asked_of(case), room_of(case), vllm_of(case.settings))
    if case.loop and case.visible:
        return  # an end comes to the client later than the next step is decided
    assert [entries for _, entries in told(alone)] == [entries for _, entries in told(state)]
    assert np.array_equal(alone.requests[STATUS], state.requests[STATUS])
