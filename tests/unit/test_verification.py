"""What the slow checks in verification/ build on still fits the code that they judge."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.metrics.intervals import intervals
from moesim.workload.batching.refill import Refill
from moesim.workload.batching.static import Static
from moesim.workload.serving.state import NEVER, Asked
from moesim.workload.serving.vllm import Vllm
from verification.check import CHECKS, load
from verification.intervals import Batching, draw, schedule_of
from verification.scheduling import StepTime, served, spent_ns


def test_every_check_says_its_law() -> None:
    load()
    assert len(CHECKS) > 30
    for one in CHECKS.values():
        assert one.law
        assert one.why
        assert one.unit


@pytest.mark.parametrize("batching", [Static, Refill])
def test_runs_that_are_drawn_have_intervals(batching: Batching) -> None:
    rng = np.random.default_rng(0)
    made = intervals(draw(rng, schedule_of(rng, batching))[0])
    assert made["blocks"] > 10
    assert made["output_throughput"]["low"] < made["output_throughput"]["high"]


def test_a_scheduler_serves_by_a_formula() -> None:
    one, asked_at = np.ones(2, np.int64), np.array([0, NEVER - 1])
    asked = Asked(4 * one, 3 * one, np.minimum(asked_at, 1_000_000), 0 * one, 0 * one - 1, 0 * one)
    state = served(asked, Vllm(max_num_batched_tokens=64), StepTime(700, 11))
    assert spent_ns(state).tolist() == [3 * 700 + 6 * 11] * 2
