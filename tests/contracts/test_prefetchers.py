"""What every prefetcher keeps to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.memory.prefetch import registry
from moesim.memory.prefetch.base import View
from moesim.memory.turns import Needs

FETCHING = sorted(kind for kind, one in registry.components.items() if one.fetches)
PASSES, LAYERS, EXPERTS = 6, 3, 8
masks = st.lists(
    st.booleans(), min_size=PASSES * LAYERS * EXPERTS, max_size=PASSES * LAYERS * EXPERTS
)


def view_of(mask: np.ndarray, first: int = 0) -> View:
    """One GPU with every expert; each need is one choice."""
    needs = {}
    for layer in range(LAYERS):
        _, experts = np.nonzero(mask[:, layer])
        offsets = np.concatenate(([0], np.cumsum(mask[:, layer].sum(axis=1))))
        needs[layer, 0] = Needs(offsets, experts)
    return View(
        first=first,
        local=[np.arange(EXPERTS)],
        logical=np.tile(np.arange(EXPERTS), (LAYERS, 1)),
        needs=needs,
        before={},
        active=np.ones((len(mask), LAYERS), np.bool_),
        choices=mask.astype(np.int64),
        recorded=np.roll(mask, 1, axis=2),
        followers=lambda source, target, part: mask[:, source].astype(np.int64).T @ mask[:, target],
    )


def lists(needs: Needs) -> list[list[int]]:
    return [part.tolist() for part in np.split(needs.experts, needs.offsets[1:-1])]


@pytest.mark.parametrize("kind", FETCHING)
@settings(max_examples=25, deadline=None)
@given(masks)
def test_a_prediction_names_experts_of_the_gpu_once_a_pass(kind: str, drawn: list[bool]) -> None:
    view = view_of(np.array(drawn).reshape(PASSES, LAYERS, EXPERTS))
    predicted = registry.get(kind)().predict(view, 0, 1, 0)
    assert len(predicted.offsets) == PASSES + 1
    for experts in lists(predicted):
        assert len(set(experts)) == len(experts)
        assert set(experts) <= set(range(EXPERTS))


@pytest.mark.parametrize("kind", [k for k in FETCHING if k != "history"])
@settings(max_examples=25, deadline=None)
@given(masks, st.integers(1, PASSES - 1))
def test_a_prediction_does_not_depend_on_where_a_view_begins(
    kind: str, drawn: list[bool], first: int
) -> None:
    mask = np.array(drawn).reshape(PASSES, LAYERS, EXPERTS)
    whole, later = view_of(mask), view_of(mask[first:], first)
    one = registry.get(kind)(
        **({"recall": "70 %", "precision": "50 %"} if kind == "oracle" else {})
    )
    if kind == "next_layer":
        later = View(**{**later.__dict__, "followers": whole.followers})
    assert lists(one.predict(whole, 0, 1, 0))[first:] == lists(one.predict(later, 0, 1, 0))


def test_an_oracle_predicts_as_well_as_it_says() -> None:
    mask = np.zeros((20_000, LAYERS, EXPERTS), np.bool_)
    mask[:, :, :3] = True
    found = lists(
        registry.get("oracle")(recall="60 %", precision="75 %").predict(view_of(mask), 0, 1, 0)
    )
    right = sum(expert < 3 for experts in found for expert in experts)
    predicted = sum(map(len, found))
    assert right / (3 * len(mask)) == pytest.approx(0.6, abs=0.01)
    assert right / predicted == pytest.approx(0.75, abs=0.01)


def test_history_repeats_the_pass_before() -> None:
    mask = np.random.default_rng(0).random((PASSES, LAYERS, EXPERTS)) < 0.4
    view = view_of(mask)
    predicted = lists(registry.get("history")().predict(view, 0, 2, 0))
    assert predicted == [[], *lists(view.needs[2, 0])[:-1]]


def test_next_layer_predicts_what_always_follows() -> None:
    ids = np.random.default_rng(1).integers(0, EXPERTS, 50)
    mask = np.zeros((50, LAYERS, EXPERTS), np.bool_)
    for layer in range(LAYERS):
        mask[np.arange(50), layer, (ids + layer) % EXPERTS] = True
    view = view_of(mask)
    assert lists(registry.get("next_layer")().predict(view, 0, 1, 0)) == lists(view.needs[1, 0])
