"""The time to first token, by hand and against the tables of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.hardware.charge import CHARGES
from moesim.metrics.ttft import ttft_ms
from moesim.testing.traces import toy_trace
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

MS = 1_000_000


def observed(lengths, ends, *, phase="all", chunk=None, passes=None):
    """``ttft_ms`` of a batch of two on one GPU whose passes end at ``ends`` in ms."""
    trace = toy_trace(lengths)
    requests = Requests.of(trace, phase)
    seats = Static(batch_size=2).seats(requests)
    schedule = Schedule.of(requests, seats, trace, 1, chunk)
    if passes is not None:
        schedule = schedule.first(passes)
    time = np.array(ends)[:, None] * MS
    starts = np.concatenate((np.zeros((1, 1), np.int64), time[:-1]))
    charges = np.zeros((len(ends), 1, 8), np.int64)
    charges[:, :, 0] = time - starts
    case: Any = SimpleNamespace(trace=trace, schedule=schedule)
    outcome: Any = SimpleNamespace(
        starts=starts, ends=time, charges=charges, categories=CHARGES, row=lambda step: step
    )
    return ttft_ms(case, outcome)


def test_by_hand():
    """Prompts of 3 and 2 in chunks of 2: [0 0], [0 1], [1]; then a decode step of both."""
    found = observed([(3, 1), (2, 1)], [7, 9, 14, 20], chunk=2)
    assert found["ttft_ms"].tolist() == [9.0, 14.0 - 7.0]
    assert found["ttft_attention_ms"].tolist() == [9.0, 7.0]
    assert found["ttft_experts_ms"].tolist() == [0.0, 0.0]


def test_without_a_prompt_or_its_end_there_is_none():
    found = observed([(2, 1), (0, 1)], [5, 8])
    np.testing.assert_array_equal(found["ttft_ms"], [5.0, np.nan])
    cut = observed([(3, 1), (2, 1)], [7, 9], chunk=2, passes=2)
    np.testing.assert_array_equal(cut["ttft_ms"], [9.0, np.nan])
    assert np.isnan(observed([(2, 2)], [3, 4], phase="decode")["ttft_ms"]).all()


SMALL = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "experts": {"capacity": "8 slots/layer"},
}


def run(**workload):
    batching = {"kind": "refill", "batch_size": 2}
    return moesim.run({**SMALL, "workload": {"requests": 6, "batching": batching, **workload}})


@pytest.mark.parametrize("experts", ["cache", "bypass", "stream"])
def test_the_parts_add_up(experts):
    result = run(phase="all", prefill={"chunk": 50, "experts": experts})
    requests = result.requests
    parts = [name for name in requests if name.startswith("ttft_") and name != "ttft_ms"]
    assert len(parts) == 8
    np.testing.assert_allclose(requests[parts].sum(axis=1), requests.ttft_ms, rtol=1e-12)
    assert result.summary["mean_ttft_ms"] == pytest.approx(requests.ttft_ms.mean(), rel=1e-12)
    assert result.summary["p50_ttft_ms"] == pytest.approx(requests.ttft_ms.median(), rel=1e-12)
    assert (requests.ttft_waiting_for_weights_ms > 0).all()


def test_a_run_of_decode_steps_has_none():
    summary = run(phase="decode").summary
    for numbers in (summary, summary["after_warm_up"]):
        assert [numbers[f"{which}_ttft_ms"] for which in ("mean", "p50", "p99")] == [None] * 3


def test_staging_buffers_are_in_the_memory():
    """8 layers of 8 slots; two experts more, or two layers of 32."""
    held = {}
    for experts in ("cache", "bypass", "stream"):
        parts = run(phase="all", prefill={"experts": experts}).summary["memory_bytes"]
        held[experts] = parts["expert_slots"] + parts["copies_in_flight"]
    expert = held["cache"] // (8 * 8)
    assert held["bypass"] == held["cache"] + 2 * expert
    assert held["stream"] == held["cache"] + 2 * 32 * expert
