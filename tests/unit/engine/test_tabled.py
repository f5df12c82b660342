"""Prices of equal shapes, asked for once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine import tabled
from moesim.engine.tabled import Tabled, different


class Prices:
    """A formula in which every argument matters; it counts the shapes that it was asked for."""

    def __init__(self):
        self.asked = 0

    def price(self, kind, layer, tokens, context=0, kv=0):
        self.asked += len(tokens)
        return layer + 1000 * tokens + 7 * context + kv * kv

    def provenance(self, kind, price_ns, *shape):
        whole = np.sum(price_ns * (shape[-1] % 2))
        return np.array([whole, np.sum(price_ns) - whole], np.float64)


def formula() -> Any:
    """Prices for all that this page asks for."""
    return Prices()


numbers = st.integers(0, 5) | st.integers(0, 1 << 40)
shapes = st.lists(st.tuples(st.integers(0, 3), numbers, numbers), min_size=1, max_size=40)


@given(shapes)
def test_the_same_nanoseconds_and_provenance(shapes):
    columns = np.array(shapes, np.int64).T
    plain, tabled_ = formula(), Tabled(formula())
    price = plain.price("attention", 3, *columns)
    np.testing.assert_array_equal(tabled_.price("attention", 3, *columns), price)
    provenance = tabled_.provenance("attention", price % 1000, 3, *columns)
    np.testing.assert_allclose(provenance, plain.provenance("attention", price % 1000, 3, *columns))


def test_each_different_shape_is_priced_once():
    prices = formula()
    numbers = np.array([4, 9, 4, 4, 9])
    assert Tabled(prices).price("gate", 1, numbers).tolist() == [4001, 9001, 4001, 4001, 9001]
    assert prices.asked == 2


def test_shapes_that_are_all_alike_are_remembered():
    prices = formula()
    tabled_ = Tabled(prices)
    for _ in range(3):
        assert tabled_.price("gate", 1, np.full(4, 5)).tolist() == [5001] * 4
    assert prices.asked == 1


@pytest.mark.parametrize("count", [0, 1, 7])
def test_different_names_the_first_of_each(count):
    columns = (np.arange(count) % 3, np.arange(count) % 2)
    found = different(columns)
    if not count:
        assert found is None
        return
    assert found is not None
    pairs = list(zip(*(c.tolist() for c in columns), strict=True))
    where = found.where.tolist()
    assert len({pairs[i] for i in where}) == len(where) == len(set(pairs))
    assert [pairs[where[i]] for i in found.place.tolist()] == pairs
    assert found.times.tolist() == [pairs.count(pairs[i]) for i in where]


def test_what_does_not_fit_in_one_number_is_left_alone(monkeypatch):
    monkeypatch.setattr(tabled, "LARGEST", 10)
    assert different((np.array([0, 5]), np.array([0, 9]))) is None
