"""Requests that preempt each other for ever are found as soon as a state comes again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.workload.serving.state import (
    ENDED,
    ENDLESS,
    NEVER,
    STATUS,
    STEPS,
    Asked,
    Room,
    State,
)
from moesim.workload.serving.stepping.clock import played
from moesim.workload.serving.stepping.clock import steps_of as timed
from moesim.workload.serving.stepping.cycles import digest_of, must_end, never_ends
from moesim.workload.serving.vllm import Vllm
from tests.reference.step_times import with_step_times

PROMPT, ANSWER, OTHERS = 60, 20, 400
RULES = Vllm(max_num_batched_tokens=64, max_num_seqs=2, long_prefill_token_threshold=4,
             reserve_full_isl=False, policy="priority")  # fmt: skip
ROOM = Room(blocks=24, block_size=4)
"""For a request and a fifth of another: two of them take turns."""


def asked(comes: list[int], priority: list[int] | None = None) -> Asked:
    """Requests that all have the same prompt and answer."""
    each, none = np.ones(len(comes), np.int64), np.full(len(comes), -1)
    first = np.zeros(len(comes), np.int64) if priority is None else np.array(priority)
    return Asked(PROMPT * each, ANSWER * each, np.array(comes), first, none, 0 * each)


def timed_state(what: Asked, room: Room = ROOM, rules: Vllm = RULES) -> State:
    """After all steps of 7 ns, or as many as there are until it is sure that there is no end."""
    steps = timed(what, room, rules)
    state, start, _ = next(steps)
    while not never_ends(state):
        try:
            state, start, _ = steps.send(start + 7)
        except StopIteration:
            break
    return state


def test_two_of_one_instant_take_turns_for_ever() -> None:
    state = timed_state(asked([0, 0]))
    assert state.numbers[ENDLESS]
    with pytest.raises(InputError, match=r"one priority.*write arrivals that differ"):
        must_end(state)


def test_it_is_known_after_some_rounds_however_much_waits() -> None:
    """Ten steps a token of all would be 320,000."""
    state = timed_state(asked([0] * OTHERS))
    assert state.numbers[ENDLESS]
    assert state.numbers[STEPS] < 10 * (PROMPT + ANSWER)


def test_where_no_clock_matters_too() -> None:
    state = played(asked([0, 0]), ROOM, RULES)
    assert never_ends(state)
    assert state.numbers[STEPS] < 10 * (PROMPT + ANSWER)


@pytest.mark.parametrize(
    ("what", "rules"),
    [
        (asked([0, 1]), RULES),
        (asked([0, 0], [0, 1]), RULES),
        (asked([0, 0]), RULES.model_copy(update={"policy": "fcfs"})),
    ],
)
def test_an_order_ends_it(what: Asked, rules: Vllm) -> None:
    state = timed_state(what, rules=rules)
    assert not state.numbers[ENDLESS]
    assert (state.requests[STATUS] == ENDED).all()


def test_while_something_is_to_come_nothing_is_for_ever() -> None:
    """Until then they take turns; what comes in front of both may part them."""
    state = timed_state(asked([0, 0, 7_000], [1, 1, 0]))
    assert state.numbers[STEPS] > 7_000 // 7


def test_prefixes_that_are_found_again_end_it() -> None:
    """What one has computed is found when it comes back, so that it gets further each time."""
    state = timed_state(asked([0, 0]), replace(ROOM, caches_prefixes=True))
    assert (state.requests[STATUS] == ENDED).all()


def test_a_digest_is_of_what_runs_and_waits() -> None:
    one, other = (with_step_times(timed(asked([0, 5]), ROOM, RULES), lambda *_: 7) for _ in "12")
    assert digest_of(one) == digest_of(other)
    other.ranks[:, 0] += 1
    assert digest_of(one) != digest_of(other)
    assert NEVER > digest_of(one) >= 0
