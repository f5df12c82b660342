"""What every prefetcher keeps to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch import registry
from moesim.memory.prefetch.base import Prefetcher, View
from moesim.testing.prefetchers import (
    knows_no_more_than_it_says,
    predictions,
    predicts_experts_of_the_gpu,
    predicts_the_same_from_any_pass_on,
    view_of,
)

FETCHING = sorted(kind for kind, one in registry.components.items() if one.fetches)
PASSES, LAYERS, EXPERTS = 6, 3, 8
PARAMETERS: dict[str, dict[str, Any]] = {"oracle": {"recall": "70 %", "precision": "50 %"}}
masks = st.lists(
    st.booleans(), min_size=PASSES * LAYERS * EXPERTS, max_size=PASSES * LAYERS * EXPERTS
)


def prefetcher(kind: str) -> Prefetcher:
    return registry.get(kind)(**PARAMETERS.get(kind, {}))


@pytest.mark.parametrize("kind", FETCHING)
@settings(max_examples=25, deadline=None)
@given(masks, st.integers(1, PASSES - 1))
def test_contract(kind: str, drawn: list[bool], at: int) -> None:
    needed, one = np.array(drawn).reshape(PASSES, LAYERS, EXPERTS), prefetcher(kind)
    predicts_experts_of_the_gpu(one, view_of(needed), 0, 1)
    predicts_the_same_from_any_pass_on(one, needed, 0, 1, at)
    knows_no_more_than_it_says(one, needed, 0, 1, at)


class Psychic(Prefetcher):
    """Predicts what will be needed, twice, and says nothing of it."""

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        active = view.active_experts[target, gpu]
        return ActiveExperts(2 * active.offsets, np.repeat(active.experts, 2))


class Counting(Prefetcher):
    """Predicts by the number of the pass in the view."""

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        return ActiveExperts.of(np.arange(view.passes)[:, None] > np.arange(EXPERTS))


def test_one_that_breaks_the_rules_is_named() -> None:
    needed = np.ones((PASSES, LAYERS, EXPERTS), np.bool_)
    with pytest.raises(AssertionError, match="Psychic predicts an expert twice in a pass"):
        predicts_experts_of_the_gpu(Psychic(), view_of(needed), 0, 1)
    with pytest.raises(AssertionError, match="Psychic reads what is not known yet"):
        knows_no_more_than_it_says(Psychic(), needed, 0, 1, 2)
    with pytest.raises(AssertionError, match="Counting: a pass depends on where the view begins"):
        predicts_the_same_from_any_pass_on(Counting(), needed, 0, 1, 2)


def test_an_oracle_predicts_as_well_as_it_says() -> None:
    mask = np.zeros((20_000, LAYERS, EXPERTS), np.bool_)
    mask[:, :, :3] = True
    kind: Any = registry.get("oracle")
    oracle = kind(recall="60 %", precision="75 %")
    found = predictions(oracle, view_of(mask), 0, 1)
    right = sum(expert < 3 for experts in found for expert in experts)
    count = sum(map(len, found))
    assert right / (3 * len(mask)) == pytest.approx(0.6, abs=0.01)
    assert right / count == pytest.approx(0.75, abs=0.01)


def test_history_repeats_the_pass_before() -> None:
    mask = np.random.default_rng(0).random((PASSES, LAYERS, EXPERTS)) < 0.4
    found = predictions(prefetcher("history"), view_of(mask), 0, 2)
    assert found == [[], *needed_in(mask, 2)[:-1]]


def test_next_layer_predicts_what_always_follows() -> None:
    ids = np.random.default_rng(1).integers(0, EXPERTS, 50)
    mask = np.zeros((50, LAYERS, EXPERTS), np.bool_)
    for layer in range(LAYERS):
        mask[np.arange(50), layer, (ids + layer) % EXPERTS] = True
    assert predictions(prefetcher("next_layer"), view_of(mask), 0, 1) == needed_in(mask, 1)


def needed_in(mask: np.ndarray, layer: int) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in mask[:, layer]]
