"""The LRU miss curve against a cache played in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.trace import NO_EXPERT
from moesim.trace.statistics.lru import lru_miss_ratios
from tests.unit.trace.conftest import build, random_ids


def played(trace, layer, slots):
    """Misses of a list ordered by last use, looked at when each token begins."""
    order: list[int] = []
    misses = uses = 0
    for token in trace.expert_ids[:, layer]:
        needs = sorted(int(expert) for expert in token if expert != NO_EXPERT)
        resident = order[:slots]
        misses += sum(expert not in resident for expert in needs)
        uses += len(needs)
        for expert in needs:
            order = [expert, *(other for other in order if other != expert)]
    return misses / uses


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 3))
def test_every_size_is_as_played(seed, tokens, top_k):
    ids = random_ids(np.random.default_rng(seed), tokens, 2, 6, top_k)
    trace = build(ids, [tokens], experts=6)
    curve = lru_miss_ratios(trace)
    for layer in range(2):
        for slots in range(7):
            assert curve[layer, slots] == pytest.approx(played(trace, layer, slots))


def test_unused_slots_and_an_unused_layer():
    ids = [[[0, NO_EXPERT], [NO_EXPERT, NO_EXPERT]], [[0, 1], [NO_EXPERT, NO_EXPERT]]]
    curve = lru_miss_ratios(build(ids, [2], experts=4))
    assert curve[0].tolist() == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert np.isnan(curve[1]).all()


def test_the_cache_outlives_requests(make):
    curve = lru_miss_ratios(make([[[0]], [[0]]], [1, 1], experts=2))
    assert curve[0, 1] == 0.5
