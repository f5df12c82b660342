"""What the compiled clock makes of shared links: the numbers that it counts in, and arrivals, as
`FairLinks` of `des` has them in fractions.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.replay.clock.flows import FLOWS, NEVER, WAYS, Flows, Ways, next_arrivals
from moesim.engine.replay.clock.twice import Twice, cut, is_below, less, over, plus, product, times
from moesim.runtime.compiled import njit, types
from tests.unit.engine.test_links import GB, ends_of

PAIR = types.UniTuple(types.float64, 2)
OFF = Fraction(1, 10**30)
WHOLE = st.integers(1, 10**15)
RATES = st.sampled_from([1, 2, 3, 7, 10, 12]) | st.integers(1, 97)


@njit(types.UniTuple(PAIR, 4)(PAIR, PAIR))
def reckon(x: Any, y: Any) -> Any:
    return plus(x, y), less(x, y), times(x, y), over(x, y)


@njit(types.int64(WAYS, FLOWS))
def arrivals(ways: Any, flows: Any) -> Any:
    return next_arrivals(ways, flows)


def exactly(x: Twice) -> Fraction:
    return Fraction(x[0]) + Fraction(x[1])


@given(WHOLE, WHOLE, WHOLE, WHOLE)
def test_sums_products_and_quotients_are_off_by_no_more_than_said(a, b, c, d):
    """Of numbers that are fractions of whole ones, so that floats do not hold them."""
    x, y = over((float(a), 0.0), (float(b), 0.0)), over((float(c), 0.0), (float(d), 0.0))
    assert abs(exactly(x) - Fraction(a, b)) <= OFF * Fraction(a, b)
    exact = [of(exactly(x), exactly(y)) for of in (Fraction.__add__, Fraction.__sub__)]
    exact += [exactly(x) * exactly(y), exactly(x) / exactly(y)]
    size = exactly(x) + exactly(y)
    for found, right, of in zip(reckon(x, y), exact, (size, size, *exact[2:]), strict=True):
        assert abs(exactly(found) - right) <= OFF * of
    assert exactly(product(float(a), float(b))) == a * b
    assert is_below(x, y) == (exactly(x) < exactly(y))


@pytest.mark.parametrize(
    ("number", "whole"), [((3.0, 0.0), 3), ((3.0, -1e-20), 2), ((3.0, 1e-20), 3), ((2.5, 0.0), 2)]
)
def test_what_is_cut_off_is_less_than_one(number, whole):
    found, rest = cut(number)
    assert found == whole
    assert 0 <= exactly(rest) < 1
    assert exactly(number) == whole + exactly(rest)


def compiled_ends(capacity, flows):
    """As ``ends_of``: the end of each (time, bytes, links)."""
    crosses = np.array([[name in path for name in capacity] for _, _, path in flows])
    rates = np.array([rate * GB for rate in capacity.values()])
    number, ends = len(flows), [0] * len(flows)
    moving, arrived, waits = np.zeros((3, number), np.bool_)
    left, rate = np.zeros((2, number, 2))
    state = Flows(
        np.zeros(1, np.int64), np.zeros((1, 2)), moving, np.array([at for at, _, _ in flows]),
        np.array([amount for _, amount, _ in flows]), left, rate, arrived, waits,
        np.zeros((len(rates), 2)),
    )  # fmt: skip
    while moving.any() or (state.begins < NEVER).any():
        end = arrivals(Ways(crosses, rates), state)
        for flow in np.flatnonzero(arrived):
            ends[flow] = end
    return ends


@given(st.data())
def test_arrivals_are_those_of_fractions(data):
    """Round numbers, of which many arrive at a whole nanosecond or together, and others."""
    names = ["a", "b", "c"][: data.draw(st.integers(1, 3))]
    capacity = {name: data.draw(RATES) for name in names}
    paths = st.lists(st.sampled_from(names), min_size=1, unique=True)
    flow = st.tuples(st.integers(0, 300), st.integers(0, 900), paths)
    flows = data.draw(st.lists(flow, min_size=1, max_size=9))
    assert compiled_ends(capacity, flows) == ends_of(capacity, flows)


def test_completions_are_rounded_up_once():
    """The law of ``test_links.py``: 120 at once at 7 bytes a ns, with no drift between them."""
    sizes, passed, before, exact = [1000 + 17 * k for k in range(120)], Fraction(0), 0, []
    for rank, size in enumerate(sizes):
        passed += Fraction((len(sizes) - rank) * (size - before), 7)
        before = size
        exact.append(ceil(passed))
    assert compiled_ends({"a": 7}, [(0, size, "a") for size in sizes]) == exact
