from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.calibrate.collect.measure import (
    LARGEST_CALLS,
    LARGEST_VISITS,
    Measurement,
    Series,
    calls_in,
    rows_of,
)
from moesim.calibrate.collect.statistics import interval_ranks, summary
from tests.unit.calibrate.collecting import Clock, FakeDevice, fake_point


def measured(points, budget_s, after=lambda series: None):
    clock = Clock()
    device: Any = FakeDevice(clock)
    series = [Series(point) for point in points]
    Measurement(device, series, budget_s, clock, after).run()
    return series, clock.now


def test_a_burst_of_noise_within_one_visit_does_not_move_the_time():
    quiet = [[100.0, 101.0, 99.0]] * 6
    assert summary([*quiet, [900.0] * 500]).latency_ns == pytest.approx(100, rel=0.02)


def test_there_is_no_interval_before_six_visits():
    assert interval_ranks(5) is None
    assert interval_ranks(6) == (0, 5)
    assert summary([[10.0]] * 5).interval_percent == np.inf
    assert summary([[10.0]] * 6).interval_percent == 0


@pytest.mark.parametrize("count", [6, 11, 40])
def test_the_interval_holds_the_true_median_as_often_as_it_says(count):
    ranks = interval_ranks(count)
    assert ranks is not None
    low, high = ranks
    draws = np.sort(np.random.default_rng(3).exponential(size=(20_000, count)), axis=1)
    held = (draws[:, low] <= np.log(2)) & (np.log(2) <= draws[:, high])
    assert 0.945 < held.mean() < 0.995


@given(st.lists(st.lists(st.floats(1, 1e9), min_size=1, max_size=5), min_size=1, max_size=20))
def test_a_summary_lies_within_its_times(visits):
    found = summary(visits)
    flat = [time for times in visits for time in times]
    assert min(flat) <= found.latency_ns <= max(flat)
    assert found.repeats == len(flat)
    assert found.spread_percent >= 0
    assert found.interval_percent >= 0


@pytest.mark.parametrize("budget_s", [1.0, 10.0, 60.0])
def test_the_budget_is_kept(budget_s):
    noisy = [fake_point(n, lambda visit: 1e6 * (1 + visit % 3), n % 3) for n in range(1, 41)]
    _, took = measured(noisy, budget_s)
    assert took == pytest.approx(budget_s, rel=0.1)


def test_points_of_a_high_priority_are_measured_first_and_more_often():
    log: list[Any] = []
    points = [
        fake_point(n, lambda visit: 1e5 * (1 + visit % 4), n // 10, log=log) for n in range(30)
    ]
    series, _ = measured(points, 8.0)
    assert log[:30] == list(range(30))
    turns = [one.turns for one in series]
    assert min(turns[:10]) > max(turns[20:])


def test_when_the_time_is_short_the_first_priority_is_refined_before_the_last_is_begun():
    series, _ = measured([fake_point(n, 2e7, n // 10) for n in range(30)], 2.0)
    assert all(one.turns > 1 for one in series[:5])
    assert series[-1].turns == 0


def test_a_point_that_does_not_vary_is_left_alone_and_the_run_ends_early():
    series, took = measured([fake_point(n, 1e4) for n in range(1, 5)], 600.0)
    assert {one.turns for one in series} == {6}
    assert took < 60


def test_a_point_that_never_settles_has_a_largest_number_of_visits():
    (one,), took = measured([fake_point(1, lambda visit: 1e4 * (1 + visit % 7))], 600.0)
    assert one.turns == LARGEST_VISITS
    assert took < 600


def test_a_point_that_fails_is_told_and_the_others_go_on():
    points = [fake_point(1, 1e4, error=RuntimeError("no kernel\nfor this")), fake_point(2, 1e4)]
    series, _ = measured(points, 1.0)
    assert series[0].failure == "no kernel"
    assert [row["bytes"] for row in rows_of(series)] == [2]


def test_an_interruption_leaves_what_was_measured():
    seen = []

    def interrupt(series):
        seen.append(series)
        if len(seen) == 3:
            raise KeyboardInterrupt

    clock = Clock()
    series = [Series(fake_point(n, 1e4)) for n in range(1, 9)]
    device: Any = FakeDevice(clock)
    with pytest.raises(KeyboardInterrupt):
        Measurement(device, series, 10.0, clock, interrupt).run()
    assert [row["bytes"] for row in rows_of(series)] == [1, 2, 3]


def test_calls_fill_the_slice():
    assert calls_in(0.1, 0.01) == 10
    assert calls_in(0.001, 1.0) == 1
    assert calls_in(1.0, 1e-9) == LARGEST_CALLS
