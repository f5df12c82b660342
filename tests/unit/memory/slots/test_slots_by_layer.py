"""Slots by layer: the bytes of equal slots, never more misses promised, equal among equals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.activations import ActiveExperts
from moesim.memory.slots.slots_by_layer import lru_curve, share_out

EXPERTS = 6
curves = st.lists(st.integers(0, 1000), min_size=EXPERTS, max_size=EXPERTS).map(np.array)
layers = st.lists(st.tuples(curves, st.integers(1, 50)), min_size=1, max_size=5)
slot_counts = st.integers(1, EXPERTS)


def copied(of_layers, slots):
    return sum(curve[have - 1] * size for (curve, size), have in zip(of_layers, slots, strict=True))


@given(layers, slot_counts)
def test_no_more_bytes_and_no_more_misses_than_equal_slots(of_layers, slots):
    sizes = [size for _, size in of_layers]
    shared = share_out([curve for curve, _ in of_layers], sizes, slots)
    assert shared.min() >= 1
    assert shared.max() <= EXPERTS
    assert shared @ np.array(sizes) <= slots * sum(sizes)
    assert copied(of_layers, shared) <= copied(of_layers, [slots] * len(sizes))


@given(curves, slot_counts, st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_equal_curves_share_equally(curve, slots, sizes):
    assert share_out([curve] * len(sizes), sizes, slots).tolist() == [slots] * len(sizes)


@given(st.lists(curves, min_size=1, max_size=3), slot_counts)
def test_convex_curves_are_shared_out_as_well_as_can_be(drawn, slots):
    """Greedy is optimal where every further slot saves less than the one before."""
    convex = [1_000_000 - np.cumsum(np.sort(curve)[::-1]) for curve in drawn]
    every = [
        one for one in product(range(1, EXPERTS + 1), repeat=len(convex))
        if sum(one) <= slots * len(convex)
    ]  # fmt: skip
    of_layers = [(curve, 1) for curve in convex]
    best = min(copied(of_layers, one) for one in every)
    assert copied(of_layers, share_out(convex, [1] * len(convex), slots)) == best


def test_a_slot_goes_where_it_saves_most():
    steep, flat = np.array([100, 40, 10, 0]), np.array([50, 45, 41, 38])
    assert share_out([steep, flat], [1, 1], 2).tolist() == [3, 1]
    assert share_out([flat, steep], [1, 1], 2).tolist() == [1, 3]


def test_a_cliff_is_worth_its_slots():
    """Three slots save 90 misses, one or two nothing: more for each than the other layer's 20."""
    cliff, slope = np.array([100, 100, 100, 10]), np.array([100, 80, 60, 40])
    assert share_out([cliff, slope], [1, 1], 3).tolist() == [4, 2]


def test_bytes_that_no_expert_fits_in_stay_free():
    """6 bytes beside the first slots: two experts of 1 byte, then none of 5."""
    large, small = np.array([100, 99, 98]), np.array([100, 50, 0])
    assert share_out([large, small], [5, 1], 2).tolist() == [1, 3]


@pytest.mark.parametrize(("slots", "misses"), [(1, 9), (2, 9), (3, 3), (4, 3)])
def test_the_curve_of_a_loop(slots, misses):
    """0 1 2 three times: LRU misses all until the whole loop fits. Pieces follow one another."""
    steps = ActiveExperts(np.arange(4), np.arange(3))
    assert lru_curve([steps] * 3, 4)[slots - 1] == misses


@given(st.lists(st.integers(0, EXPERTS - 1), max_size=60))
def test_a_curve_of_single_needs_falls_to_the_first_uses(needed):
    curve = lru_curve(
        [ActiveExperts(np.arange(len(needed) + 1), np.array(needed, np.int64))], EXPERTS
    )
    assert (np.diff(curve) <= 0).all()
    assert curve[-1] == len(set(needed))
    assert curve[0] == sum(a != b for a, b in zip([None, *needed], needed, strict=False))
