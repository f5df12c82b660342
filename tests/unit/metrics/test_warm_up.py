"""MSER-5 against its definition, and on series whose start is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.metrics.warm_up import mser5

series = st.lists(st.integers(0, 1000), max_size=120).map(lambda values: np.array(values, float))


def defined(values: np.ndarray) -> int:
    """The cut by the rule as White, Cobb and Spratt write it."""
    means = [values[i : i + 5].mean() for i in range(0, len(values) // 5 * 5, 5)]
    if not means:
        return 0
    errors = [
        sum((x - np.mean(means[cut:])) ** 2 for x in means[cut:]) / (len(means) - cut) ** 2
        for cut in range(len(means) // 2 + 1)
    ]
    return 5 * int(np.argmin(np.round(errors, 9)))


@given(series)
def test_it_is_the_published_rule(values):
    cut, wanted = mser5(values), defined(values)
    if cut != wanted:  # two cuts that are equally good
        means = values[: len(values) // 5 * 5].reshape(-1, 5).mean(axis=1)
        error = [means[c // 5 :].var() / (len(means) - c // 5) for c in (cut, wanted)]
        assert error[0] == pytest.approx(error[1], abs=1e-6)


@given(series)
def test_at_most_half_is_cut_in_steps_of_five(values):
    cut = mser5(values)
    assert cut % 5 == 0
    assert cut <= len(values) / 2


@given(st.integers(0, 8), st.integers(20, 40))
def test_a_cold_start_is_cut_and_nothing_else(cold, warm):
    values = np.concatenate([np.full(5 * cold, 50.0), np.ones(5 * warm)])
    assert mser5(values) == 5 * cold


def test_a_constant_series_has_no_warm_up():
    assert mser5(np.full(100, 0.1)) == 0
    assert mser5(np.array([])) == 0
