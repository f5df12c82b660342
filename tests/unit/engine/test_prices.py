"""Prices of equal shapes, asked for once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.pricing import prices
from moesim.engine.pricing.prices import PriceCache, PricedOperation, told
from moesim.engine.pricing.provenance import Provenance


class Formula:
    """A formula in which every argument matters; it counts the shapes that it was asked for."""

    def __init__(self):
        self.asked = 0

    def price(self, kind, layer, tokens, context=0, kv=0):
        self.asked += len(tokens)
        return layer + 1000 * tokens + 7 * context + kv * kv % 1000

    def provenance(self, kind, price_ns, *shape):
        whole = np.sum(price_ns * (shape[-1] % 2))
        return np.array([whole, np.sum(price_ns) - whole, 0, 0, 0], np.float64)


def formula() -> Any:
    """Prices for all that this page asks for."""
    return Formula()


numbers = st.integers(0, 5) | st.integers(0, 1 << 40)
shapes = st.lists(st.tuples(st.integers(0, 3), numbers, numbers), min_size=1, max_size=40)


@given(st.lists(shapes, min_size=1, max_size=3), st.sampled_from([1, 4, 1 << 8]))
def test_the_same_nanoseconds_and_provenance(parts, room):
    plain, asked = formula(), formula()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prices, "ROOM", room)
        operation = PricedOperation("attention", "", (3, *np.zeros((3, 1), np.int64)))
        expected, provenance = Provenance(plain), Provenance(asked)
        for part in parts:
            columns = tuple(np.array(part, np.int64).T)
            price = plain.price("attention", 3, *columns)
            expected.add("attention", price, 3, *columns, times=2)
            found = operation.prices(asked, (3, *columns), len(part), 2)
            np.testing.assert_array_equal(found, price)
        operation.settle(provenance)
        mine, theirs = (of.by_operation["attention", "attention"] for of in (provenance, expected))
        np.testing.assert_allclose(mine, theirs)
        operation.settle(provenance)
        mine, theirs = (of.by_operation["attention", "attention"] for of in (provenance, expected))
        np.testing.assert_allclose(mine, theirs)
    assert asked.asked == len({shape for part in parts for shape in part})


@given(st.lists(st.lists(numbers, max_size=30), max_size=4), st.sampled_from([1, 2, 1 << 8]))
def test_new_shapes_are_asked_for_with_where_they_came_first(parts, room):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prices, "ROOM", room)
        cache, seen = PriceCache(1, ways=2), Counter[int]()
        for part in parts:

            def ask(new, first, part=part):
                assert new[:, 0].tolist() == [part[i] for i in first]
                assert first.tolist() == [part.index(one) for one in new[:, 0]]
                assert not set(new[:, 0].tolist()) & set(seen)
                return np.stack((new[:, 0] % 7, new[:, 0] % 11))

            found = cache.prices(np.array(part, np.int64).reshape(-1, 1), ask)
            assert found.tolist() == [[one % 7 for one in part], [one % 11 for one in part]]
            seen.update(part)
    which, kept, total = cache.settled()
    assert kept[:, 0].tolist() == sorted(seen)
    assert sorted(which.tolist()) == list(range(len(seen)))
    for one, (first, second) in zip(kept[:, 0].tolist(), total.T.tolist(), strict=True):
        assert (first, second) == (seen[one] * (one % 7), seen[one] * (one % 11))
    assert not len(cache.settled()[0])


def test_what_is_not_used_rests_on_nothing():
    cache = PriceCache(1)
    assert cache.prices(np.array([[4], [4]]), lambda new, _: new[:, 0], 0).tolist() == [4, 4]
    assert not len(cache.settled()[0])
    assert cache.prices(np.array([[4]]), lambda *_: pytest.fail("it is known"), 3).tolist() == [4]
    assert cache.settled()[2].tolist() == [12]


def test_a_price_without_columns_is_that_of_every_pass():
    class Flat:
        def price(self, kind):
            return np.array(5)

        def provenance(self, kind, price_ns):
            return np.array([np.sum(price_ns), 0, 0, 0, 0])

    flat: Any = Flat()
    operation, provenance = PricedOperation("decide", "gate", ()), Provenance(flat)
    assert operation.prices(flat, (), 3, 2).tolist() == [5, 5, 5]
    operation.settle(provenance)
    assert provenance.by_operation["gate", "decide"].sum() == 30


def test_shapes_are_told_apart_by_all_but_their_columns():
    one, other = [1], [1]
    column = np.zeros(3, np.int64)
    assert told((one, column, 2)) == told((one, column + 1, 2))
    assert told((one, column, 2)) != told((other, column, 2))
    assert told((one, column, 2)) != told((one, column, 3))
    assert told((one, column)) != told((one, column, column))
