"""Whether a line grows, and how far a mean is known."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.metrics.steady import PIECES, Line, grows, latency_intervals


def line(waiting: list[int], each: int = 10) -> Line:
    return Line(np.arange(len(waiting)) * each, np.array(waiting))


def test_means_over_time_by_hand() -> None:
    """0 for 10 ns, 4 for 30 ns: over 40 ns in pieces of 2."""
    means = Line(np.array([0, 10]), np.array([0, 4])).means(0, 40)
    assert means.tolist() == [0.0] * (PIECES // 4) + [4.0] * (3 * PIECES // 4)


def test_means_begin_with_the_first_arrival() -> None:
    """Of 5 from 100 on, whatever was before: over 40 ns that begin at 100."""
    means = Line(np.array([0, 100]), np.array([9, 5])).means(100, 140)
    assert means.tolist() == [5.0] * PIECES


def test_a_line_that_grows_and_ones_that_do_not() -> None:
    steps = np.arange(400)
    noise = np.random.default_rng(3).integers(0, 6, 400)
    assert grows(line((steps // 10 + noise).tolist()), 0, 4000)
    assert not grows(line(noise.tolist()), 0, 4000)
    assert not grows(line((40 - steps // 10 + noise).tolist()), 0, 4000)
    assert not grows(line([0] * 400), 0, 4000)
    assert not grows(line([5] * 400), 0, 0)  # all came at once


def test_false_alarms_are_as_rare_as_they_should_be() -> None:
    """Independent means: one in twenty has such a slope."""
    random = np.random.default_rng(5)
    alarms = sum(grows(line(random.integers(0, 60, 200).tolist()), 0, 2000) for _ in range(1000))
    assert 20 <= alarms <= 80


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    random, held, missing = np.random.default_rng(7), 0, np.full(200, np.nan)
    for _ in range(500):
        times = {"ttft": random.exponential(3.0, 200), **dict.fromkeys(("tpot", "e2el"), missing)}
        found = latency_intervals({**times, "queue": missing}, 0)
        one = found["mean_ttft_ms"]
        held += one["low"] <= 3 <= one["high"]
    assert found["batches"] == 20
    assert found["mean_tpot_ms"]["value"] is None
    assert 0.9 <= held / 500 <= 0.98


def test_few_requests_have_no_interval() -> None:
    times = dict.fromkeys(("ttft", "tpot", "e2el", "queue"), np.arange(30.0))
    found = latency_intervals(times, None)
    assert found["mean_ttft_ms"]["low"] is None
    assert "an interval needs 50" in found["reason"]
    with_warm_up = latency_intervals(times, 10)
    assert with_warm_up["mean_ttft_ms"]["value"] == pytest.approx(19.5)
