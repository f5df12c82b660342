"""Distances between traces."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.trace import NO_EXPERT, Phase
from moesim.trace.distance import compare
from tests.unit.trace.conftest import build, random_ids


def drawn(seed, tokens=40, experts=12, phase=Phase.DECODE):
    ids = random_ids(np.random.default_rng(seed), tokens, 2, experts, 2)
    return build(ids, [tokens // 4] * 4, experts=experts, phase=phase)


def by_name(result):
    return {row["measure"]: row for row in result["measures"]}


def test_a_trace_is_no_way_from_itself():
    rows = by_name(compare(drawn(0), drawn(0)))
    assert {name: row["distance"] for name, row in rows.items()} == dict.fromkeys(rows, 0)
    assert {"load", "lru_miss_8_slots", "distinct_experts_batch_4", "next_layer_pairs"} <= set(rows)


def test_distances_are_symmetric():
    one, other = by_name(compare(drawn(0), drawn(1))), by_name(compare(drawn(1), drawn(0)))
    for name, row in one.items():
        assert row["distance"] == pytest.approx(other[name]["distance"])
        assert row["first"] == other[name]["second"]


def test_disjoint_experts_are_a_whole_variation_apart(make):
    one, other = make([[[0], [1]]] * 4, [2, 2]), make([[[2], [3]]] * 4, [2, 2])
    rows = by_name(compare(one, other))
    assert rows["load"]["distance"] == 1
    assert rows["next_layer_pairs"]["distance"] == 1
    assert rows["overlap_previous"]["distance"] == 0


def test_halves_are_every_other_request(make):
    ids = [[[0]], [[0]], [[1]], [[1]], [[0]], [[0]]]
    rows = by_name(compare(make(ids, [2, 2, 2]), make(ids, [2, 2, 2])))
    assert rows["load"]["halves"] == 1
    assert by_name(compare(make(ids, [6]), make(ids, [6])))["load"]["halves"] is None


def test_a_phase_has_its_own_layers():
    ids = random_ids(np.random.default_rng(0), 8, 2, 6, 2)
    ids[:4, 1] = NO_EXPERT
    ids[4:, 0] = NO_EXPERT
    both = build(ids, [8], experts=6)
    both.phase[:4] = Phase.ENCODE
    assert compare(both, both)["phase"] == "decode"
    assert compare(both, both, "encode")["moe_layers"] == 1
    assert compare(both, both, "all")["moe_layers"] == 2


@pytest.mark.parametrize(
    ("other", "phase", "said"),
    [
        (drawn(0, experts=13), None, "has 12 experts here, the second 13"),
        (drawn(0), "decod", "'decod' is not known"),
        (drawn(0), "prefill", "has no prefill tokens"),
        (drawn(0, phase=Phase.PREFILL), None, "has no decode tokens"),
    ],
)
def test_traces_that_cannot_be_compared(other, phase, said):
    with pytest.raises(InputError, match=said):
        compare(drawn(0), other, phase)
