"""Every registered choice between variants, on tokens that hypothesis makes up."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from moesim.memory.choices import registry
from moesim.memory.choices.base import SCORE_UNIT, ByLimits, Seen
from moesim.testing.variant_choices import limits_ascend, scores_are_of_choices
from moesim.trace.routing import NO_EXPERT

EXPERTS = 8


@st.composite
def seen(draw: st.DrawFn) -> Seen:
    """Up to 5 tokens, 2 layers, 3 choices of 8 experts, some of them missing."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 5)), 2, EXPERTS)
    ids = generator.permuted(np.broadcast_to(np.arange(EXPERTS), shape), axis=2)[:, :, :3]
    chosen = np.where(generator.random(ids.shape) < 0.2, NO_EXPERT, ids).astype(np.uint16)
    weights = generator.integers(0, draw(st.sampled_from([2, SCORE_UNIT])), ids.shape)
    usage = generator.integers(0, 5, (2, EXPERTS))
    return Seen(chosen, np.where(chosen == NO_EXPERT, 0, weights), usage)


def made(kind: str, variants: int) -> Any:
    cls: Any = registry.get(kind)
    one = cls()
    if variants == 2 or not isinstance(one, ByLimits):
        return one
    return cls(middle=f"{50 * (one.high + one.low):g} %")


@pytest.mark.parametrize("kind", registry.components)
@settings(max_examples=25, deadline=None)
@given(seen=seen(), variants=st.sampled_from([2, 3]))
def test_contract(kind: str, seen: Seen, variants: int) -> None:
    scores_are_of_choices(made(kind, variants), seen)
    limits_ascend(made(kind, variants), variants)


class Peeks(ByLimits):
    """Reads weights and does not say so."""

    kind: Literal["peeks"] = "peeks"

    def scores(self, seen: Seen) -> Any:
        return np.minimum(seen.weights, SCORE_UNIT)


def test_one_that_breaks_the_rules_is_named() -> None:
    ids, usage = np.zeros((1, 1, 1), np.uint16), np.ones((1, 1), np.int64)
    one = Seen(ids, np.ones((1, 1, 1), np.int64), usage)
    with pytest.raises(AssertionError, match="Peeks reads gate weights without 'weighs = True'"):
        scores_are_of_choices(Peeks(), one)


@pytest.mark.parametrize(
    ("kind", "limits"),
    [("gate_cumulative", ["60 %", "50 %"]), ("gate_ratio", ["20 %", "30 %"])],
)
def test_limits_in_the_wrong_order_are_refused(kind: str, limits: list[str]) -> None:
    cls: Any = registry.get(kind)
    with pytest.raises(ValidationError, match="where its variant ends and the next one begins"):
        cls(high=limits[0], low=limits[1])


def test_scores_by_hand() -> None:
    """Weights .5, .3, .2: before them 0, .5, .8; over the largest 1, .6, .4. By use expert 2 comes
    first, then 0 (of equals), then 1.
    """
    unit = SCORE_UNIT // 10
    ids = np.array([[[0, 1, 2]]], np.uint16)
    weights = np.array([[[5, 3, 2]]]) * unit
    of = Seen(ids, weights, np.array([[1, 1, 4, 0]]))

    def shares(kind: str) -> list[float]:
        scores = registry.get(kind)().scores(of)[0, 0]
        return [round(float(one) / SCORE_UNIT, 6) for one in scores]

    assert shares("gate_cumulative") == [0, 0.5, 0.8]
    assert shares("gate_ratio") == [0, 0.4, 0.6]
    assert shares("hot_cold") == [0.5, 0.75, 0.25]
    assert shares("resident_else") == [0, 0, 0]
