"""What says how long a step takes that has not been played."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.workload.serving.stepping.ahead import PAIRS, compare, longer_by


def test_an_expert_and_a_key_take_what_steps_that_differ_in_both_say() -> None:
    sums, stream = np.zeros(7), np.random.default_rng(0)
    for more, further in stream.integers(-50, 50, (20, 2)).tolist():
        compare(sums, 3_000 * more + 40 * further, more, further)
    assert longer_by(sums, 7, -30) == pytest.approx(7 * 3_000 - 30 * 40)
    assert sums[PAIRS] == 20


def test_what_differs_in_keys_alone_says_nothing_of_experts() -> None:
    sums = np.zeros(7)
    assert longer_by(sums, 7, -30) == 0
    for further in (5, -2, 9):
        compare(sums, 40 * further, 0, further)
    assert longer_by(sums, 7, -30) == pytest.approx(-30 * 40)


def test_nothing_is_said_where_times_come_from_elsewhere() -> None:
    sums, stream = np.zeros(7), np.random.default_rng(0)
    for more, further in stream.integers(-50, 50, (60, 2)).tolist():
        compare(sums, int(stream.integers(-(10**6), 10**6)) + 40 * further, more, further)
    assert longer_by(sums, 7, -30) == 0
