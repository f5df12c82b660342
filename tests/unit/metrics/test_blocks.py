"""Where a run's steps are cut into blocks, and what is summed over each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moesim
from moesim.metrics.block_sums import pieces
from moesim.results.blocks import blocks_of_result
from moesim.testing.traces import toy_trace
from moesim.workload.batching.refill import Refill
from moesim.workload.batching.static import Static
from moesim.workload.lives import lives_of
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule


def schedule_of(lengths, batching, phase="decode"):
    trace = toy_trace(lengths)
    requests = Requests.of(trace, phase)
    return Schedule.of(requests, batching.seats(requests), trace, 1)


def cut(lengths, batching, phase="decode"):
    kind, starts = pieces(schedule_of(lengths, batching, phase))
    return kind, starts.tolist()


def test_one_request_at_a_time_is_a_block():
    lengths = [(0, 3), (0, 1), (0, 4)]
    for batching in (Static(batch_size=1), Refill(batch_size=1)):
        assert cut(lengths, batching) == ("batch", [0, 3, 4])


def test_a_static_batch_is_a_block():
    assert cut([(0, 3), (0, 1), (0, 4), (0, 2)], Static(batch_size=2)) == ("batch", [0, 3])


def test_prompts_belong_to_their_batch():
    """Passes: a prompt pass of both, three steps, the next prompt pass, two steps."""
    lengths = [(2, 3), (1, 1), (4, 2), (1, 2)]
    assert cut(lengths, Static(batch_size=2), "all") == ("batch", [0, 4])
    assert cut(lengths, Static(batch_size=2), "prefill") == ("batch", [0, 1])


def test_refilled_slots_make_blocks_of_steps_as_long_as_a_request():
    """One slot has requests of 2, the other of 6 steps: 3 on average over 8 requests."""
    lengths = [(0, 6), *[(0, 2)] * 3, (0, 6), *[(0, 2)] * 3]
    assert cut(lengths, Refill(batch_size=2)) == ("steps", [0, 3, 6, 9])


def test_refilled_slots_that_end_together_are_batches():
    assert cut([(0, 3)] * 4, Refill(batch_size=2)) == ("batch", [0, 3])


def test_long_runs_have_no_more_than_400_rows():
    for batching in (Static(batch_size=1), Refill(batch_size=2)):
        kind, starts = cut([(0, 1 + n % 3) for n in range(1200)], batching)
        assert 200 < len(starts) <= 400
        assert kind == ("batch" if batching.batch_size == 1 else "steps")


lengths = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6)).filter(any), min_size=1, max_size=20
)


@given(lengths, st.integers(1, 4), st.sampled_from([Static, Refill]))
def test_no_request_goes_on_from_one_batch_to_the_next(lengths, size, batching):
    schedule = schedule_of(lengths, batching(batch_size=size), "all")
    kind, starts = pieces(schedule)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert starts[-1] < schedule.passes
    first, last = lives_of(schedule)[:2]
    if kind == "batch":
        place = [np.searchsorted(starts, end, "right") for end in (first, last)]
        assert place[0].tolist() == place[1].tolist()
    if batching is Static:
        assert kind == "batch"


SOURCE = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "experts": {"capacity": "6 slots/layer"},
    "records": "step",
}


@pytest.fixture(
    scope="module",
    params=[
        {"phase": "decode"},
        {"phase": "all", "batching": {"kind": "refill", "batch_size": 3}},
        {"phase": "prefill"},
    ],
    ids=lambda workload: workload["phase"],
)
def result(request):
    return moesim.run({**SOURCE, "workload": request.param})


def test_blocks_add_up_to_the_run(result):
    blocks, summary = result.blocks, result.summary
    assert blocks["duration_ns"].sum() == round(summary["duration_ms"] * 1e6)
    assert blocks["steps"].sum() == summary["steps"]
    for name in ("tokens", "hits"):
        assert blocks[name].sum() == summary[name]
    assert blocks["decode_tokens"].sum() == result.steps["decode_tokens"].sum()
    assert blocks["access_hits"].sum() == result.steps["access_hits"].sum()
    tpot = result.requests["tpot_ms"].dropna()
    assert blocks["timed_requests"].sum() == len(tpot)
    assert blocks["tpot_ns"].sum() == pytest.approx(tpot.sum() * 1e6, abs=len(tpot))


def test_a_row_is_the_steps_from_its_first_to_the_next(result):
    steps, blocks = result.steps, result.blocks
    row = np.searchsorted(blocks["first_step"], steps["step"], "right") - 1
    for name in ("tokens", "activations", "hits", "accesses"):
        assert steps.groupby(row)[name].sum().tolist() == blocks[name].tolist(), name
    assert blocks["duration_ns"].cumsum().tolist() == steps.groupby(row)["end_ns"].max().tolist()


def test_a_folder_keeps_them(result, tmp_path):
    from moesim.results import read_result, write_result
    from moesim.results.blocks import read_blocks

    folder = write_result(result, tmp_path / "run")
    kept, read = blocks_of_result(read_result(folder)), read_blocks(folder)
    assert kept is not None
    assert read is not None
    for blocks in (kept, read):
        pd.testing.assert_frame_equal(blocks.sums, result.blocks)
        assert (blocks.kind, blocks.trace) == (read.kind, read.trace)
        assert blocks.trace
        left_out = blocks.sums["steps"][: blocks.warm_up].sum()
        assert left_out == result.summary["intervals"]["warm_up_steps"]
    (folder / "blocks.parquet").unlink()
    assert read_blocks(folder) is None
