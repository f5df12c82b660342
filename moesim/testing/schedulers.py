"""What every scheduler of requests keeps (docs/serving.md)."""

from __future__ import annotations

import numpy as np

from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.state import (
    AWAY,
    BEGIN,
    CACHED,
    CHUNKS,
    CONTENT,
    COUNT,
    DROPS,
    ENDED,
    FREE,
    GIVEN,
    GIVES,
    HELD,
    INPUT,
    KEPT,
    MEMORY,
    NONE,
    OUTPUT,
    PREEMPTED,
    READY,
    RECOMPUTED,
    REJECTED,
    RUN,
    RUNNING,
    SHOWN,
    STATUS,
    STEPS,
    TABLE,
    UNIT,
    UNITS,
    USERS,
    VERIFIES,
    WHO,
    Asked,
    Ints,
    Room,
    State,
)
from moesim.workload.serving.stepping.clock import rules_of, steps_of
from moesim.workload.serving.stepping.host import HostTimes
from moesim.workload.serving.stepping.steps import filled_with

TIMES = HostTimes(3, 1, 2, 1)


def keeps_the_laws(scheduler: RequestScheduler, asked: Asked, room: Room) -> State | None:
    """Every request is served, or rejected as too long; returns the state at the end, None where
    all are rejected.

    At each decision a step has something, each request once, and not more requests run than may;
    blocks that are held and free ones are all that there are. In the end a request's tokens in
    steps are its prompt and its answer but for the last token and those found in blocks, and again
    those that were lost; and it gave one token for each of its answer, at the end of the step that
    has what it follows from, or of a later one.
    """
    name = type(scheduler).__name__
    steps = steps_of(asked, room, scheduler, TIMES, filled_with(*rules_of(scheduler, room)))
    state, ended = None, None
    while True:
        try:
            state, start, _ = next(steps) if ended is None else steps.send(ended)
        except StopIteration:
            break
        who, count = _last(state)[[WHO, COUNT]]
        assert len(set(who.tolist())) == len(who), f"{name}: a request twice in a step"
        assert (count > 0).all(), f"{name}: a request without a token"
        assert (state.ranks[RUN] <= scheduler.most_running).all(), f"{name}: too many run"
        _check_blocks(state, name)
        ended = start + int(count.sum())
    if state is not None:
        _check_tokens(state, name)
    return state


def _last(state: State) -> Ints:
    step = state.numbers[STEPS] - 1
    return state.log[:, state.steps[BEGIN, step] : state.steps[BEGIN, step + 1]]


def _check_blocks(state: State, name: str) -> None:
    """Users of every block are those that hold it, and the free ones have none."""
    users = np.zeros(state.blocks.shape[1], np.int64)
    for request in np.flatnonzero(state.requests[STATUS] == RUNNING):
        first, held = state.requests[TABLE, request], state.requests[HELD, request]
        blocks = state.table[:, first : first + held]
        np.add.at(users, blocks[blocks != NONE], 1)
    assert (users == state.blocks[USERS]).all(), f"{name}: blocks are held by nobody, or by many"
    free = (users == 0).reshape(state.ranks.shape[1], -1).sum(axis=1) - state.ranks[AWAY]
    assert (free == state.ranks[FREE]).all(), f"{name}: {state.ranks[FREE]} free blocks of {free}"
    found = (users == 0) & (state.blocks[CONTENT] != NONE)
    kept = found.reshape(state.ranks.shape[1], -1).sum(axis=1)
    assert (kept == state.ranks[KEPT]).all(), f"{name}: {state.ranks[KEPT]} of {kept} are found"


def _check_tokens(state: State, name: str) -> None:
    begins = state.steps[BEGIN, : state.numbers[STEPS] + 1]
    asked, entries = state.requests, state.log[:, : begins[-1]]
    own = np.repeat(np.arange(state.numbers[STEPS]), np.diff(begins))
    shown = (own <= entries[SHOWN]) & (entries[SHOWN] < state.numbers[STEPS])
    assert shown.all(), f"{name}: tokens before their step, or never"
    over = asked[STATUS] == ENDED
    assert (over | (asked[STATUS] == REJECTED)).all(), f"{name}: a request is left"
    given = np.maximum(entries[GIVES], 1)  # of drafts those that are right count
    tokens = np.bincount(
        entries[WHO], entries[COUNT] - 1 - entries[VERIFIES] + given, asked.shape[1]
    )
    again = tokens - (asked[INPUT] + asked[OUTPUT] - 1 - asked[READY] - asked[CACHED])
    assert again[over].sum() == state.numbers[RECOMPUTED], f"{name}: tokens lost, or too many"
    assert (again[over & (asked[PREEMPTED] == 0)] == 0).all(), f"{name}: tokens twice"
    kept = entries[GIVES] - entries[DROPS]
    gave = np.bincount(entries[WHO], kept, asked.shape[1]) + (asked[READY] > 0)
    assert (gave == np.where(over, asked[OUTPUT], gave)).all(), f"{name}: answers are too short"
    assert (asked[GIVEN] == gave).all(), f"{name}: tokens that nobody saw"
    parts = np.bincount(entries[WHO], minlength=asked.shape[1])
    assert (parts == asked[CHUNKS]).all(), f"{name}: {asked[CHUNKS]} parts of {parts}"
    pool = state.ranks[MEMORY] + state.ranks[UNITS] * state.numbers[UNIT]
    assert (state.ranks[FREE] == pool).all(), f"{name}: blocks are held at the end"
