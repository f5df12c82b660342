"""What holds of gatings whatever the trace is, and what the reference study says of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moesim.gating import registry
from moesim.placement.base import rows_between_gpus

KINDS = ("dynamic", "gshard", "no_drop", "static", "tutel")
LM, MT = (512, "5 %", 4096), (128, "100 %", 1344)
"""Experts, capacity fraction and tokens of a GPU of the reference study's two models."""


def gating(kind, **choices):
    return registry.get(kind)(**choices)


def even(count, shape=(2, 3, 4, 8)):
    """``count`` choices of every expert by every sender, and the tokens that make two each."""
    passes, _, senders, experts = shape
    tokens = np.full((passes, senders), count * experts // 2)
    return np.full(shape, count), tokens


@given(count=st.integers(1, 50))
def test_on_uniform_routing_all_gatings_agree(count):
    """A capacity that fits exactly leaves nothing to pad: rows, kept and sent rows are the same."""
    counts, tokens = even(count)
    share = f"{Fraction(count, int(tokens[0, 0])) * 100} %"  # 2 / 8 of the tokens: 25 %
    exact: dict[str, dict[str, Any]] = {
        "static": {"capacity_fraction": share},
        "tutel": {"capacity_fraction": share},
    }
    exact["gshard"] = {"min_capacity": 0}
    ways = [gating(kind, **exact.get(kind, {})).route(counts, tokens, 2) for kind in KINDS]
    ways.append(gating("tutel", capacity="no_drop").route(counts, tokens, 2))
    for routed in ways:
        np.testing.assert_array_equal(routed.rows, counts.sum(axis=2))
        np.testing.assert_array_equal(routed.kept, counts)
        np.testing.assert_array_equal(routed.sent, counts)
        assert not routed.dropped.any()


@given(count=st.integers(1, 50), factor=st.sampled_from([1.0, 1.5, 2.0, 7.25]))
def test_more_room_than_an_even_share_is_padding_alone(count, factor):
    counts, tokens = even(count)
    routed = gating("gshard", factor=factor, min_capacity=0).route(counts, tokens, 2)
    room = -(-count * Fraction(str(factor)) // 1)
    assert (routed.kept == counts).all()
    assert (routed.rows == 4 * room).all()


@given(
    counts=arrays(np.int64, (2, 2, 4, 6), elements=st.integers(0, 30)),
    top_k=st.integers(1, 4),
)
def test_dynamic_moves_exactly_the_routed_rows(counts, top_k):
    tokens = np.full((2, 4), 40)
    routed = gating("dynamic").route(counts, tokens, top_k)
    matrix = rows_between_gpus(routed.sent[:, 0], np.array([0, 0, 1, 2, 2, 3]))
    np.testing.assert_array_equal(matrix.sum(axis=(1, 2)), counts[:, 0].sum(axis=(1, 2)))
    np.testing.assert_array_equal(matrix[:, :, 1], counts[:, 0, :, 2])


@given(counts=arrays(np.int64, (2, 2, 4, 6), elements=st.integers(0, 30)))
def test_no_drop_has_room_for_the_largest_count(counts):
    routed = gating("no_drop").route(counts, np.full((2, 4), 40), 2)
    np.testing.assert_array_equal(routed.capacity, counts.max(axis=(2, 3)))
    np.testing.assert_array_equal(routed.kept, counts)


@pytest.mark.parametrize(
    ("tokens", "factor", "minimum", "capacity"),
    [
        (4096, 1.0, 4, 16),  # 4096 x 2 / 512
        (4097, 1.0, 4, 17),
        (4096, 1.25, 4, 20),
        (100, 1.0, 4, 4),
        (100, 1.0, 8, 8),
        (100, 1.0, 0, 1),
    ],
)
def test_gshard_gives_an_even_share_or_the_minimum(tokens, factor, minimum, capacity):
    gate = gating("gshard", factor=factor, min_capacity=minimum)
    nothing = np.zeros((1, 1, 1, 512), np.int64)
    assert gate.route(nothing, np.array([[tokens]]), 2).capacity.tolist() == [[capacity]]


def test_long_fractions_do_not_overflow():
    gate = gating("gshard", factor=0.3333333333333333, min_capacity=0)
    nothing = np.zeros((1, 1, 1, 1), np.int64)
    capacity = gate.route(nothing, np.array([[3 * 10**6]]), 1).capacity
    assert capacity.tolist() == [[10**6]]


@pytest.mark.parametrize(
    ("model", "factor"), [(LM, Fraction("12.8")), (MT, Fraction(64))], ids=["LM", "MT"]
)
@pytest.mark.parametrize("kind", ["static", "tutel"])
def test_waste_factors_of_the_reference_study(kind, model, factor):
    """E x C / k; measured, where the capacity needs no rounding: 8 GPUs of 20 n tokens."""
    experts, share, _ = model
    gate = gating(kind, capacity_fraction=share)
    tokens = np.full((1, 8), 20 * 64)
    counts = np.zeros((1, 1, 8, experts), np.int64)
    counts[..., :2] = 20 * 64
    routed = gate.route(counts, tokens, 2)
    choices = int(counts.sum())
    assert Fraction(int(routed.rows.sum()), choices) == factor
    assert int(routed.kept.sum() + routed.dropped.sum()) == choices


def test_who_drops_who_agrees_and_who_reads_weights():
    said = {kind: (gating(kind).drops, gating(kind).agrees) for kind in KINDS}
    assert said == {
        "dynamic": (None, False),
        "gshard": ("first_come", False),
        "no_drop": (None, True),
        "static": ("first_come", False),
        "tutel": ("first_come", False),
    }
    assert gating("tutel", capacity="no_drop").agrees
    reads = {drop: gating("gshard", drop=drop).weighs for drop in ("random", "batch_prioritised")}
    assert reads == {"random": False, "batch_prioritised": True}
