"""What the compiled clock makes of shared links: the numbers that it counts in, and arrivals, as
`FairLinks` of `des` has them in fractions.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.des.links import FairLinks
from moesim.engine.instants import NEVER
from moesim.engine.replay.clock.flows import FLOWS, WAYS, Flows, Ways, next_arrivals
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


def flows_of(flows, rates):
    """Flows of (time, bytes) on so many links, none of which has begun."""
    number = len(flows)
    moving, arrived, waits = np.zeros((3, number), np.bool_)
    left, rate = np.zeros((2, number, 2))
    return Flows(
        np.zeros(1, np.int64), np.zeros((1, 2)), moving, np.array([at for at, *_ in flows]),
        np.array([amount for _, amount, *_ in flows]), left, rate, arrived, waits,
        np.zeros((rates, 2)),
    )  # fmt: skip


def ways_of(capacity, paths):
    crosses = np.array([[name in path for name in capacity] for path in paths])
    return Ways(crosses, np.array(list(capacity.values())))


def compiled_ends(capacity, flows):
    """As ``ends_of``: the end of each (time, bytes, links)."""
    ways = ways_of({name: rate * GB for name, rate in capacity.items()}, [f[2] for f in flows])
    state, ends = flows_of(flows, len(capacity)), [0] * len(flows)
    while state.moving.any() or (state.begins < NEVER).any():
        end = arrivals(ways, state)
        for flow in np.flatnonzero(state.arrived):
            ends[flow] = end
    return ends


def compiled_rows(capacity, rows, number):
    """The ends of each row of a ``number`` of transfers (time, bytes, links) that follow one
    another.
    """
    ways, state = ways_of(capacity, [row[2] for row in rows]), flows_of(rows, len(capacity))
    ends: list[list[int]] = [[] for _ in rows]
    while state.moving.any() or (state.begins < NEVER).any():
        end = arrivals(ways, state)
        for flow in np.flatnonzero(state.arrived):
            ends[flow].append(end)
            if len(ends[flow]) < number:
                state.begins[flow], state.amount[flow] = end, rows[flow][1]
    return ends


def exact_rows(capacity, rows, number):
    """The same of ``FairLinks``."""
    env = simpy.Environment()
    fair = FairLinks(env, capacity)
    ends: list[list[int]] = [[] for _ in rows]

    def follow(own, time, amount, links):
        yield env.timeout(time)
        for _ in range(number):
            yield fair.transfer(amount, links)
            own.append(env.now)

    for own, row in zip(ends, rows, strict=True):
        env.process(follow(own, *row))
    env.run()
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


TURNS = {"a": 102_400_000_000, "b": 102_400_000_000, "memory": 163_840_000_000}
"""Two hosts of a DGX A100's node: alone each reads a quarter faster than beside the other."""


@pytest.mark.parametrize("number", [16, 30, 60])
def test_users_that_take_turns_come_ever_closer_to_a_nanosecond(number):
    """What arrives 1/4, 1/16, 1/64 ns after one, and so on, is at it as soon in both."""
    rows = [(0, 44_050_944, ["a", "memory"]), (1094, 44_050_944, ["b", "memory"])]
    assert compiled_rows(TURNS, rows, number) == exact_rows(TURNS, rows, number)


@given(st.data())
def test_rows_of_transfers_arrive_as_those_of_fractions(data):
    capacity = {name: data.draw(RATES) * GB // data.draw(RATES) for name in "abm"}
    time, amount = st.integers(0, 2000), st.sampled_from([1, 640, 44_050_944, 13_271_041])
    rows = [(data.draw(time), data.draw(amount), [own, "m"]) for own in "ab"]
    assert compiled_rows(capacity, rows, 40) == exact_rows(capacity, rows, 40)
