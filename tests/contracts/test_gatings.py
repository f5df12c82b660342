"""Every registered gating, on counts that hypothesis makes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moesim.gating.base import Gating, padded_to
from moesim.gating.dynamic import Dynamic
from moesim.testing.gatings import (
    conserves_choices,
    leaves_its_inputs,
    routes_each_pass_alone,
    says_what_it_does,
)

FOLDER = Path(__file__).parents[2] / "moesim" / "gating"


@pytest.fixture(scope="module")
def gatings():
    from moesim.gating import registry

    return {kind: gating() for kind, gating in registry.components.items()}


@st.composite
def routed(draw):
    """Choices int64[p, l, g, e] of tokens int64[p, g], and k: a token chooses an expert once."""
    passes, layers, senders, experts = (draw(st.integers(1, most)) for most in (4, 3, 4, 6))
    tokens = draw(arrays(np.int64, (passes, senders), elements=st.integers(0, 40)))
    tokens[:, 0] = np.maximum(tokens[:, 0], 1)  # a pass has a token
    shape = (passes, layers, senders, experts)
    share = draw(arrays(np.float64, shape, elements=st.floats(0, 1)))
    return np.floor(share * tokens[:, None, :, None]).astype(np.int64), tokens, experts


def test_every_file_of_the_folder_is_registered(gatings):
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files <= set(gatings)


@given(routed=routed())
def test_contract(gatings, routed):
    for gating in gatings.values():
        conserves_choices(gating, *routed)
        leaves_its_inputs(gating, *routed)
        routes_each_pass_alone(gating, *routed)
        says_what_it_does(gating, *routed)


@given(routed=routed())
def test_dynamic_pads_nothing_and_drops_nothing(gatings, routed):
    counts, tokens, top_k = routed
    result = gatings["dynamic"].route(counts, tokens, top_k)
    np.testing.assert_array_equal(result.rows, counts.sum(axis=2))
    np.testing.assert_array_equal(result.kept, counts)
    assert not result.dropped.any()


def test_static_by_hand(gatings):
    """Two GPUs of 10 and 5 tokens, 25 %: ceil(2.5) = 3 rows a sender and expert."""
    counts = np.array([[[[7, 2, 1], [0, 5, 0]]]])
    result = gatings["static"].route(counts, np.array([[10, 5]]), 2)
    assert result.capacity.tolist() == [[3]]
    assert result.kept.tolist() == [[[[3, 2, 1], [0, 3, 0]]]]
    assert result.sent.tolist() == [[[[3, 3, 3], [3, 3, 3]]]]
    assert result.rows.tolist() == [[[6, 6, 6]]]
    assert result.dropped.tolist() == [[4 + 2]]


@pytest.mark.parametrize(
    ("share", "tokens", "capacity"),
    [("10 %", 30, 3), ("30 %", 10, 3), ("5 %", 20, 1), ("25 %", 1, 1), ("100 %", 7, 7)],
)
def test_static_capacity_is_exact(gatings, share, tokens, capacity):
    """0.1 x 30 is 3.0000000000000004 in floating point, whose ceiling is 4."""
    gating = type(gatings["static"])(capacity_fraction=share)
    result = gating.route(np.zeros((1, 1, 1, 2), np.int64), np.array([[tokens]]), 1)
    assert result.capacity.tolist() == [[capacity]]


class Silent(Gating):
    """Has room for one choice, and says neither that it drops others nor that it pads."""

    uneven: ClassVar[bool] = True
    invokes_all: ClassVar[bool] = False

    def room(self, tokens, experts, top_k):
        return np.ones(len(tokens), np.int64)


class Follows(Gating):
    """Has the room of the fullest of all passes, and does not say that it reads the counts."""

    uneven: ClassVar[bool] = False
    invokes_all: ClassVar[bool] = True

    def route(self, counts, tokens, top_k):
        return padded_to(np.full(counts.shape[:2], counts.max()), counts)


class Forgets(Dynamic):
    """Routes nothing, and forgets what was asked."""

    def route(self, counts, tokens, top_k):
        counts[:] = 0
        return super().route(counts, tokens, top_k)


@pytest.mark.parametrize(
    ("contract", "gating", "said"),
    [
        (conserves_choices, Silent, "Silent drops choices and does not say so"),
        (leaves_its_inputs, Forgets, "Forgets changes the counts"),
        (routes_each_pass_alone, Follows, "Follows: 'rows' of pass 0 depends on others"),
        (says_what_it_does, Follows, "Follows: the capacity depends on the counts"),
        (says_what_it_does, Silent, "Silent computes experts that nobody chose"),
    ],
)
def test_one_that_breaks_the_rules_is_named(contract, gating, said):
    counts = np.array([[[[2, 0]]], [[[3, 1]]]])
    with pytest.raises(AssertionError, match=said):
        contract(gating(), counts, np.array([[2], [3]]), 2)
