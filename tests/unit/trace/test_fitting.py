"""A fit finds what made a trace, and what it draws resembles the trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.trace import NO_EXPERT, Phase, read_trace
from moesim.trace.distance import compare
from moesim.trace.slicing import slice_trace
from moesim.trace.synthesis import SyntheticTrace, load_parameters, synthesize
from moesim.trace.synthesis.fitting import fit
from moesim.trace.synthesis.fitting.ages import AGES, BIN_OF_AGE
from moesim.trace.synthesis.fitting.clusters import domains_of, order_of
from moesim.trace.synthesis.fitting.fit import PART_STEPS, phases_of
from moesim.trace.synthesis.fitting.likelihood import add_expected
from moesim.trace.synthesis.fitting.moments import measure
from moesim.trace.synthesis.fitting.write import write_parameters
from moesim.trace.validate import findings

EXPERTS, LAYERS = 12, 3


def made(seed=0):
    part = {
        "phases": ("decode",),
        "layers": LAYERS,
        "popularity": {"kind": "zipf", "exponent": (0.7,), "never_used": 0.1},
        "stickiness": {"recency": {"kind": "power_law", "strength": 6.0, "decay": 0.8}},
        "between_layers": {"kind": "successors", "factor": 6.0},
        "within_token": {"kind": "groups", "size": 3, "factor": 2.0},
    }
    values = {
        "title": "made",
        "experts": EXPERTS,
        "top_k": 2,
        "moe_layer_ids": (1, 3, 5),
        "requests": {
            "count": 60,
            "prefill_tokens": {
                "kind": "lognormal",
                "median_tokens": 30.0,
                "spread": 0.4,
                "most_tokens": 99,
            },
            "prefill_recorded": False,
            "decode_tokens": {"kind": "fixed", "tokens": 120},
        },
        "parts": (part,),
        "gate_weights": {"means": (0.7, 0.3), "concentration": 30.0},
        "seed": seed,
    }
    return synthesize(SyntheticTrace(**values))


@pytest.fixture(scope="module")
def trace():
    return made()


@pytest.fixture(scope="module")
def fitted(trace):
    steps = []
    parameters = fit(trace, "made", domains=2, advance=lambda: steps.append(1))
    assert len(steps) == PART_STEPS
    return parameters


def test_what_is_drawn_resembles_what_was_fitted(trace, fitted):
    drawn = synthesize(fitted, seed=3)
    rows = {row["measure"]: row for row in compare(trace, drawn)["measures"]}
    assert rows["lru_miss_8_slots"]["distance"] < 2
    assert rows["lru_miss_largest"]["distance"] < 2.5
    assert rows["overlap_previous"]["distance"] < 0.03
    assert rows["load"]["distance"] < 0.06
    assert rows["next_layer_information"]["first"] > 0.08
    assert rows["next_layer_information"]["distance"] < 0.03


def test_never_used_experts_stay_unused(trace, fitted):
    unused = [
        set(range(EXPERTS)) - set(np.unique(ids)) for ids in np.moveaxis(trace.expert_ids, 1, 0)
    ]
    drawn = synthesize(fitted)
    assert any(unused)
    for layer, experts in enumerate(unused):
        assert not experts & set(np.unique(drawn.expert_ids[:, layer]))


def test_sizes_lengths_and_weights_are_kept(trace, fitted):
    drawn = synthesize(fitted)
    assert drawn.requests == trace.requests
    assert drawn.metadata.moe_layer_ids == (1, 3, 5)
    assert (np.diff(drawn.request_offsets()) == 120).all()
    starts = [of.position[of.request_offsets()[:-1]] for of in (trace, drawn)]
    assert starts[1].mean() == pytest.approx(starts[0].mean(), rel=0.15)
    weights = [np.asarray(of.gate_weights, float) for of in (trace, drawn)]
    means = [of.mean(axis=(0, 1)) for of in weights]
    assert means[1] == pytest.approx(means[0], abs=0.02)


def test_a_file_holds_all_of_it(fitted, tmp_path):
    write_parameters(fitted, tmp_path / "p.yaml")
    assert load_parameters(tmp_path / "p.yaml") == fitted


def test_phases_are_fitted_apart(trace):
    ids, phase = trace.expert_ids.copy(), trace.phase.copy()
    place = np.arange(trace.tokens) - np.repeat(trace.request_offsets()[:-1], 120)
    phase[place < 50] = Phase.ENCODE
    ids[place < 50, 1:] = NO_EXPERT
    ids[place >= 50, 0] = NO_EXPERT
    parts = list(phases_of(replace(trace, expert_ids=ids, phase=phase)))
    assert [(part.phase, part.first_layer) for part in parts] == [("encode", 0), ("decode", 1)]
    assert parts[0].requests[7].shape == (50, 1, 2)
    assert parts[1].requests[7].shape == (70, 2, 2)


def test_a_recorded_trace_is_met_within_two_points(quickstart):
    recorded = slice_trace(read_trace(quickstart), layers=slice(0, 24, 5))
    drawn = synthesize(fit(recorded, "quickstart"), tokens=20_000, seed=1)
    rows = {row["measure"]: row for row in compare(recorded, drawn)["measures"]}
    assert rows["lru_miss_8_slots"]["distance"] < 2
    assert rows["lru_miss_16_slots"]["distance"] < 2
    assert rows["overlap_previous"]["distance"] < 0.03
    assert rows["load"]["distance"] < rows["load"]["halves"]


def test_few_tokens_and_unused_slots_are_fitted_too(random_trace):
    ids = random_trace.expert_ids.copy()
    ids[::7, 0, 0] = NO_EXPERT
    few = replace(random_trace, expert_ids=ids)
    drawn = synthesize(fit(few, "few"))
    assert drawn.requests == few.requests
    assert findings(drawn) == []


def expected(ids, base):
    layers, experts = ids.shape[1], base.shape[1]
    stage = np.zeros(len(ids), dtype=np.int64)
    ones = np.ones((layers, len(AGES) + 1))
    pairs = np.ones((layers, experts, experts))
    sums = [
        np.zeros(shape)
        for shape in ((layers, experts), (1, layers, experts), ones.shape, pairs.shape, pairs.shape)
    ]
    likelihood = add_expected(ids, base[None], stage, ones, BIN_OF_AGE, pairs, pairs, *sums)
    return likelihood, sums


def test_expected_uses_of_one_token_by_hand():
    ids = np.array([[[0, 2]]], dtype=np.uint16)
    likelihood, (uses, staged, reuses, _, within) = expected(ids, np.array([[4.0, 3.0, 1.0]]))
    assert likelihood == pytest.approx(np.log(4 / 8 * 1 / 4))
    assert uses[0] == pytest.approx([4 / 8, 3 / 8 + 3 / 4, 1 / 8 + 1 / 4])
    assert (staged[0] == uses).all()
    assert reuses[0, -1] == pytest.approx(2)
    assert within[0, 0] == pytest.approx([0, 3 / 4, 1 / 4])


def test_as_many_uses_are_expected_as_counted(trace):
    ids = np.ascontiguousarray(trace.expert_ids[:120])
    _, (uses, _, reuses, between, within) = expected(ids, np.ones((LAYERS, EXPERTS)))
    counted = measure([ids], LAYERS, EXPERTS)
    assert uses.sum() == pytest.approx(counted.uses.sum())
    assert reuses.sum() == pytest.approx(counted.reuses.sum())
    assert between.sum() == pytest.approx(counted.between.sum())
    assert within.sum() == pytest.approx(counted.within.sum())
    assert counted.exposures.sum() == 120 * LAYERS * EXPERTS


def test_domains_are_found():
    generator = np.random.default_rng(0)
    popular = np.where(np.arange(8) < 4, 20, 1)
    uses = np.stack(
        [generator.poisson(popular if i < 20 else popular[::-1], (2, 8)) for i in range(32)]
    )
    domain = domains_of(uses, 2, 0)
    assert domain.tolist() == [0] * 20 + [1] * 12
    order = order_of(domain)
    assert order.shares == pytest.approx((0.625, 0.375))
    assert order.persistence > 0.9
    assert domains_of(uses[:15], 8, 0).tolist() == [0] * 15
