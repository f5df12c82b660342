"""What the slow checks in verification/ build on still fits the code that they judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import moesim
from moesim.metrics.intervals import intervals
from moesim.workload.batching.refill import Refill
from moesim.workload.batching.static import Static
from moesim.workload.serving.state import NEVER, Asked
from moesim.workload.serving.vllm import Vllm
from verification.check import CHECKS, load
from verification.intervals import Batching, draw, schedule_of
from verification.published_runs import grown
from verification.scheduling import StepTime, served, spent_ns
from verification.served_laws import (
    ARRIVALS,
    SCHEDULERS,
    away_from_little_ns,
    beyond_limits,
    covered_ns,
    idle_ns,
)
from verification.served_laws import served as of_requests


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


def test_intervals_are_covered_once() -> None:
    assert covered_ns(np.array([5, 0, 30]), np.array([12, 10, 31])) == 12 + 1


def test_laws_of_served_runs_hold_and_see_what_breaks_them() -> None:
    """Of a run with blocks for few, and of tables that say otherwise."""
    result = moesim.run(of_requests(SCHEDULERS[0], ARRIVALS[1], "16 blocks", 24), check=True)
    assert result.summary["preemptions"] > 0
    assert idle_ns(result) == beyond_limits(result) == away_from_little_ns(result) == 0
    steps, asked = result.steps, result.requests
    late = steps.assign(start_ns=steps.start_ns + (steps.step == 3))
    assert idle_ns(replace(result, steps=late)) == 1
    full = steps.assign(running=steps.running + 6 * (steps.step == 3))
    assert beyond_limits(replace(result, steps=full)) == 1
    fewer = steps.assign(tokens=steps.tokens - (steps.step == 3))
    assert beyond_limits(replace(result, steps=fewer)) == 1
    later = asked.assign(last_token_ns=asked.last_token_ns + (asked.request_id == 3))
    assert away_from_little_ns(replace(result, requests=later)) == 1


@pytest.mark.parametrize(
    ("then", "now", "more"),
    [
        (10.0, 12.5, 2.5),  # fails: above 2 points and above a tenth
        (10.0, 11.5, 1.5),  # above a tenth, but not by 2 points
        (30.0, 32.9, 0.0),  # 2.9 points are not a tenth
        (10.0, 4.0, 0.0),
        (10.0, float("nan"), 100.0),
    ],
)
def test_evidence_may_get_worse_by_two_points_or_a_tenth(
    then: float, now: float, more: float
) -> None:
    """Of the kind of number that got worst. A pack none of whose runs had a prediction any more had
    passed, and so had one that had lost some, as long as the others' median was below two.
    """
    before = pd.DataFrame({"run": ["a", "b"], "error_percent": [-then, 3.0]})
    table = before.assign(of=["", "mean_ttft_ms"], error_percent=[now, -3.0])
    assert grown(before, table)[0] == pytest.approx(more)
