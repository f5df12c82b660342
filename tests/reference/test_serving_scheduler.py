"""The scheduler's rules, plain and compiled, against a judge that shares nothing with them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings

from moesim.config.errors import InputError
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.state import (
    ARRIVAL,
    BEGIN,
    CACHED,
    CHUNKS,
    COUNT,
    DECIDED,
    END,
    ENDED,
    GHOSTS,
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
from moesim.workload.serving.stepping.clock import played, rules_of, steps_of
from moesim.workload.serving.stepping.cycles import ENDLESS_RUN, STEPS_A_TOKEN, must_end
from moesim.workload.serving.stepping.steps import filled_with

from .judge_serving import Judge, Settings
from .serving_cases import (
    ServingCase,
    Wish,
    asked_of,
    judge_of,
    of_vllm,
    room_of,
    times_of,
    vllm_of,
    with_split,
)
from .step_times import with_step_times

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


def missed(ranks: int, step: int) -> list[int]:
    """Misses that one slot more had spared, as if caches told them after a step."""
    return [(7 * step + 3 * rank) % 4 for rank in range(ranks)]


def play(
    case: ServingCase, *, plain: bool, scheduler: RequestScheduler | None = None
) -> State | None:
    """Under vLLM's, if no ``scheduler`` is given; None: every request is rejected."""
    scheduler = scheduler or vllm_of(case.settings)
    room = room_of(case)
    fill = filled_with(*rules_of(scheduler, room)) if plain else None
    steps = steps_of(asked_of(case), room, scheduler, times_of(case), fill)

    def time_of(state: State, step: int) -> int:
        must_end(state)
        state.ranks[GHOSTS] += missed(state.ranks.shape[1], step)
        low, high = state.steps[BEGIN, step : step + 2]
        return step_time(int(state.log[COUNT, low:high].sum()))

    try:
        return with_step_times(steps, time_of)
    except StopIteration:
        return None


class NeverEndsError(Exception):
    """Requests of one instant and one priority preempt each other again and again."""


def judged(case: ServingCase, judge: Judge | None = None) -> Judge:
    judge = judge or judge_of(case)

    longest = 2 * STEPS_A_TOKEN * sum(one.prompt + one.answer for one in case.wishes)

    def time_of(entries: list[tuple[int, int, int, int]]) -> int:
        if len(judge.steps) > longest:
            raise NeverEndsError
        told = missed(case.ranks, len(judge.steps) - 1)
        for rank, number in zip(judge.ranks, told, strict=True):
            rank.ghosts += number
        return step_time(sum(count for _, _, count, _ in entries))

    judge.run(time_of)
    return judge


def check(
    case: ServingCase,
    *,
    plain: bool,
    scheduler: RequestScheduler | None = None,
    judge: Judge | None = None,
) -> None:
    try:
        state = play(case, plain=plain, scheduler=scheduler)
    except InputError as error:
        if str(error) != ENDLESS_RUN:
            raise
        with pytest.raises(NeverEndsError):
            judged(case)
        return
    judge = judged(case, judge)
    if state is None:
        assert not judge.steps
        return
    assert told(state) == judge.steps
    assert verified(state) == judge.drafted
    assert state.steps[END, : state.numbers[STEPS]].tolist() == judge.ends
    assert state.units[:, : state.numbers[STEPS]].T.tolist() == judge.given
    own = (state.numbers[RECOMPUTED], state.numbers[QUERIES], state.numbers[HITS])
    assert own == (judge.recomputed, judge.queries, judge.hit_tokens)
    for row, name in ((PREEMPTED, "preemptions"), (CHUNKS, "chunks"), (CACHED, "cached")):
        assert state.requests[row].tolist() == [getattr(one, name) for one in judge.requests]
    assert state.requests[STATUS].tolist() == [STATES[one.state] for one in judge.requests]
    came = [NEVER if one.arrival is None else one.arrival for one in judge.requests]
    assert state.requests[ARRIVAL].tolist() == came


TURNS = ServingCase(
    [Wish(4, 3, 0, 1, None, 0, 1, 1), Wish(7, 6, 0, 2, None, 0, 1, 1),
     Wish(11, 4, 0, 2, None, 0, 0, 0)],
    6, 4, times=(3, 1, 3, 1), seed=80,
    settings=Settings(budget=21, most=3, chunked=False, threshold=2, priority=True, ahead=3,
                      drafts=3, chances=(0.8, 0.5, 0.5), late=True),
)  # fmt: skip
"""The last two take turns for ever."""


@settings(max_examples=100)
@example(case=TURNS)
@given(case=of_vllm())
def test_the_rules_decide_as_the_judge_does(case):
    check(case, plain=True)


@settings(max_examples=300)
@given(case=with_split())
def test_so_they_do_where_experts_share_the_room(case):
    check(case, plain=True)


@given(case=with_split())
def test_so_do_the_compiled_rules_of_a_split(case):
    check(case, plain=False)


def test_units_move_and_one_moves_back_by_hand() -> None:
    """3 blocks of 2 tokens, units of one. Requests of 3 + 4 and of 1 + 6 tokens come together, and
    hold 2 blocks and 1. In step 2 each lacks one for its next token: experts give two units, and
    nobody is preempted. In step 4 the first has left: of 3 blocks 2 are still free, more than a
    unit, and so they are in step 5, after which one unit goes back.
    """
    wishes = [Wish(3, 4, 0, 0, None, 0, 0, 0), Wish(1, 6, 0, 0, None, 0, 0, 1)]
    settings = Settings(split="kv_first", unit=1, gives=2, patience=2)
    case = ServingCase(wishes, 3, 2, settings=settings)
    assert judged(case).given == [[0], [0], [2], [2], [2], [1]]
    for plain in (True, False):
        state = play(case, plain=plain)
        assert state is not None
        assert state.requests[PREEMPTED].tolist() == [0, 0]
        assert state.units[0, :6].tolist() == [0, 0, 2, 2, 2, 1]
        check(case, plain=plain)


@given(case=of_vllm())
def test_so_do_the_compiled_rules(case):
    check(case, plain=False)


@given(case=of_vllm())
def test_where_no_clock_matters_it_does_not(case):
    """The scheduler alone, whose clock is the number of the step, decides the same batches."""
    clockless = [one for one in case.wishes if one.after is None and one.comes in (None, 0)]
    if len(clockless) < len(case.wishes) or (case.loop and case.thinks):
        return
    state = play(case, plain=False)
    if state is None:
        return
    alone = played(asked_of(case), room_of(case), vllm_of(case.settings))
    if case.loop and case.visible:
        return  # an end comes to the client later than the next step is decided
    assert [entries for _, entries in told(alone)] == [entries for _, entries in told(state)]
    assert np.array_equal(alone.requests[STATUS], state.requests[STATUS])
