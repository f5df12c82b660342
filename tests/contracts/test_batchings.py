"""Every registered batching, on requests that hypothesis makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.testing.batchings import (
    keeps_within_the_batch,
    runs_every_token_once,
    starts_in_file_order,
)
from moesim.testing.traces import toy_trace
from moesim.trace.routing import Phase
from moesim.workload.batching.base import Batching
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule, Seats

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "batching"
CHOSEN: dict[str, set[int]] = {"decode": {Phase.DECODE}, "prefill": {Phase.PREFILL}, "all": {0, 1}}


@pytest.fixture(scope="module")
def batchings():
    from moesim.workload.batching import registry

    return {kind: one for kind, one in registry.components.items() if not one.serves}


LENGTHS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6)).filter(sum), min_size=1, max_size=9
)


def chosen(lengths, phase):
    """The trace and its requests with work in ``phase``; a draw without any is thrown away."""
    trace = toy_trace(lengths)
    assume(set(trace.phase.tolist()) & CHOSEN[phase])
    return trace, Requests.of(trace, phase)


def test_every_file_of_the_folder_is_registered(batchings):
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files - {"continuous"} <= set(batchings)


@given(
    lengths=LENGTHS,
    phase=st.sampled_from(list(CHOSEN)),
    size=st.integers(1, 6),
    gpus=st.integers(1, 4),
)
def test_contract(batchings, lengths, phase, size, gpus):
    trace, requests = chosen(lengths, phase)
    for batching in (kind(batch_size=size) for kind in batchings.values()):
        runs_every_token_once(batching, requests, trace, gpus)
        keeps_within_the_batch(batching, requests, trace, gpus)
        starts_in_file_order(batching, requests, trace)


@given(
    lengths=LENGTHS,
    phase=st.sampled_from(list(CHOSEN)),
    first=st.integers(1, 9),
)
def test_the_tokens_are_those_of_the_phase(lengths, phase, first):
    trace, requests = chosen(lengths, phase)
    of_phase = [row for row, p in enumerate(trace.phase) if int(p) in CHOSEN[phase]]
    assert requests.rows.tolist() == of_phase
    names = list(dict.fromkeys(trace.request_id[of_phase].tolist()))
    assert [names[i] for i in requests.request] == trace.request_id[of_phase].tolist()
    few = Requests.of(trace, phase, first)
    assert few.count == min(first, len(names))
    assert set(trace.request_id[few.rows].tolist()) == set(names[:first])


def live_at_decode_steps(batching, requests, trace):
    schedule = Schedule.of(requests, batching.seats(requests), trace, 1)
    at = schedule.pass_of_token()
    decode = np.flatnonzero(schedule.phase == Phase.DECODE)
    first = np.array([at[schedule.request == n].min() for n in range(requests.count)])
    return [(set(schedule.request[at == p].tolist()), int((first > p).sum())) for p in decode]


@given(lengths=LENGTHS, phase=st.sampled_from(["decode", "all"]), size=st.integers(1, 6))
def test_refill_leaves_no_slot_free_while_requests_wait(batchings, lengths, phase, size):
    trace, requests = chosen(lengths, phase)
    for live, waiting in live_at_decode_steps(
        batchings["refill"](batch_size=size), requests, trace
    ):
        assert len(live) == size or not waiting


@given(lengths=LENGTHS, size=st.integers(1, 6))
def test_static_starts_a_batch_when_the_last_one_has_ended(batchings, lengths, size):
    trace, requests = chosen(lengths, "decode")
    answers = [answer for _, answer in lengths if answer]
    longest = [max(answers[i : i + size]) for i in range(0, len(answers), size)]
    steps = live_at_decode_steps(batchings["static"](batch_size=size), requests, trace)
    assert len(steps) == sum(longest)
    for live, _ in steps:
        assert len({number // size for number in live}) == 1


def schedule_of(batching, lengths, phase, gpus=1):
    trace = toy_trace(lengths)
    requests = Requests.of(trace, phase)
    schedule = Schedule.of(requests, batching.seats(requests), trace, gpus)
    bounds = zip(schedule.offsets[:-1], schedule.offsets[1:], strict=True)
    return [schedule.request[low:high].tolist() for low, high in bounds]


def test_refill_by_hand(batchings):
    """Two slots, answers of 3, 1, 2 and 2: 1 ends first, 2 takes its slot, then 3 that of 0."""
    refill = batchings["refill"](batch_size=2)
    lengths = [(0, 3), (0, 1), (0, 2), (0, 2)]
    assert schedule_of(refill, lengths, "decode") == [[0, 1], [0, 2], [0, 2], [3], [3]]


def test_refill_with_prompts_by_hand(batchings):
    """Prompts of those admitted together share a pass; request 1 has no answer and leaves at once,
    so that 2 is admitted before the first decode step.
    """
    refill = batchings["refill"](batch_size=2)
    lengths = [(2, 2), (1, 0), (1, 1), (1, 1)]
    passes = schedule_of(refill, lengths, "all")
    assert passes == [[0, 0, 1], [2], [0, 2], [3], [0, 3]]


def test_static_by_hand(batchings):
    static = batchings["static"](batch_size=2)
    lengths = [(1, 2), (1, 1), (2, 1)]
    assert schedule_of(static, lengths, "all") == [[0, 1], [0, 1], [0], [2, 2], [2]]
    assert schedule_of(static, lengths, "prefill") == [[0, 1], [2, 2]]


class Backwards(Batching):
    """Seats the last request first, in one slot."""

    def seats(self, requests):
        steps = np.cumsum(requests.decode_tokens[::-1])[::-1] - requests.decode_tokens
        return Seats(slot=np.zeros(requests.count, np.int64), step=steps, admission=steps)


def test_one_that_begins_with_the_last_is_named():
    trace = toy_trace([(0, 1), (0, 2)])
    with pytest.raises(AssertionError, match=r"Backwards: starts \[2, 0\]"):
        starts_in_file_order(Backwards(), Requests.of(trace, "decode"), trace)
