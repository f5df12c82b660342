"""What each parameter of a synthetic trace does."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from moesim.config.errors import InputError
from moesim.trace import NO_EXPERT, Phase
from moesim.trace.statistics.correlation import joint_counts, mutual_information_bits
from moesim.trace.statistics.load import expert_counts
from moesim.trace.statistics.overlap import overlap_previous
from moesim.trace.synthesis import SyntheticTrace, load_parameters, room, synthesize
from moesim.trace.synthesis.drawing import draw_apart, draw_experts
from moesim.trace.validate import findings

EXPERTS, LAYERS = 16, 3


def parameters(part=(), requests=(), **changes):
    part = {
        "phases": ("decode",),
        "layers": LAYERS,
        "popularity": {"kind": "zipf", "exponent": (0.0,)},
        **dict(part),
    }
    requests = {"count": 20, "decode_tokens": {"kind": "fixed", "tokens": 100}, **dict(requests)}
    values = {
        "title": "test",
        "experts": EXPERTS,
        "top_k": 2,
        "moe_layer_ids": tuple(range(LAYERS)),
        **changes,
    }
    return SyntheticTrace(**values, requests=requests, parts=(part,))


def load(trace):
    counts = expert_counts(trace)
    return counts / counts.sum(axis=1, keepdims=True)


def test_the_same_seed_gives_the_same_trace_and_another_one_another():
    given = parameters(gate_weights={"means": (0.7, 0.3), "concentration": 10.0})
    one, again, other = synthesize(given), synthesize(given), synthesize(given, seed=1)
    assert (one.expert_ids == again.expert_ids).all()
    assert one.gate_weights is not None
    assert again.gate_weights is not None
    assert (one.gate_weights == again.gate_weights).all()
    assert (one.expert_ids != other.expert_ids).any()
    assert findings(one) == []


def test_more_requests_begin_with_the_same_ones():
    given = parameters({"stickiness": {"stay_probability": (0.5,)}})
    few, many = synthesize(given, requests=3), synthesize(given, requests=9)
    assert (many.expert_ids[: few.tokens] == few.expert_ids).all()
    assert (few.requests, many.requests) == (3, 9)


def test_tokens_are_cut_to_the_number_asked_for():
    trace = synthesize(parameters(), tokens=250)
    assert trace.tokens == 250
    assert np.diff(trace.request_offsets()).tolist() == [100, 100, 50]


def test_popularity_is_drawn_without_replacement():
    weights = "8 4 2 1 1"
    popularity = {"kind": "explicit", "weights_by_layer": (weights,) * LAYERS}
    given = parameters({"popularity": popularity}, {"count": 100}, experts=5)
    share = np.array([8, 4, 2, 1, 1]) / 16
    second = [
        sum(share[a] * share[b] / (1 - share[a]) for a in range(5) if a != b) for b in range(5)
    ]
    wanted = (share + second) / 2
    assert load(synthesize(given)) == pytest.approx(np.tile(wanted, (LAYERS, 1)), abs=0.01)


@pytest.mark.parametrize("stay", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("layers", "experts", "top_k"), [(1, 1, 1), (5, 7, 7), (13, 64, 6)])
def test_layers_that_wait_for_none_are_drawn_alike_all_at_once(layers, experts, top_k, stay):
    """Bit by bit, with experts that are never chosen, stages, and layers in which nothing stays."""
    random, tokens, shape = np.random.default_rng(layers), 30, (2, layers, experts)
    weights = np.exp(9 * random.standard_normal(shape)) * (random.random(shape) < 0.7)
    weights[:, :, :top_k] += 1e-9
    stage = np.sort(random.integers(0, 2, tokens))
    stays, none = np.where(random.random(layers) < 0.7, stay, 0), np.ones((0, experts, experts))
    draws = random.random((tokens, layers, 2 * top_k))
    one, other = np.zeros((2, tokens, layers, top_k), np.uint16)
    draw_experts(weights, stage, np.ones((layers, 2)), stays, none, none, draws, one)
    draw_apart(np.ascontiguousarray(weights.transpose(0, 2, 1)), stage, stays, draws, other)
    assert (one == other).all()
    assert (np.diff(np.sort(other, axis=2), axis=2) > 0).all()


def test_runs_are_neighbours_and_a_share_is_never_used():
    popularity = {"kind": "zipf", "exponent": (1.0,), "run": 4, "never_used": 0.25}
    counts = expert_counts(synthesize(parameters({"popularity": popularity})))
    blocks = counts.reshape(LAYERS, 4, 4)
    assert ((blocks == 0).all(axis=2).sum(axis=1) == 1).all()
    assert ((counts > 0).sum(axis=1) == 12).all()
    assert (blocks.sum(axis=2).max(axis=1) > counts.sum(axis=1) / 2).all()


def test_a_smaller_dirichlet_concentration_is_more_uneven():
    loads = [
        load(synthesize(parameters({"popularity": {"kind": "dirichlet", "concentration": c}})))
        for c in (0.3, 30.0)
    ]
    assert loads[0].max() > 2 * loads[1].max()


def test_experts_stay_with_the_given_probability():
    part = {"stickiness": {"stay_probability": (0.6,)}}
    overlap = overlap_previous(synthesize(parameters(part, top_k=1)))
    # an expert that may go is drawn again with probability 1 / E
    assert overlap == pytest.approx(0.6 + 0.4 / EXPERTS, abs=0.03)


def test_recency_decays_as_given():
    recency = {"kind": "by_age", "ages": (1, 2), "log_factors": (f"{np.log(5)} 0",) * LAYERS}
    given = parameters({"stickiness": {"recency": recency}}, {"count": 100}, top_k=1)
    assert overlap_previous(synthesize(given)) == pytest.approx(5 / (4 + EXPERTS), abs=0.015)


def test_power_law_recency_reaches_far():
    recency = {"kind": "power_law", "strength": 20.0, "decay": 0.5}
    trace = synthesize(parameters({"stickiness": {"recency": recency}}, {"count": 5}))
    assert overlap_previous(trace).min() > 0.25


def test_successors_tie_layers_and_groups_tie_experts():
    plain, tied = (
        synthesize(parameters({"between_layers": between}))
        for between in (None, {"kind": "successors", "factor": 20.0})
    )
    bits = [mutual_information_bits(joint_counts(trace, 0)) for trace in (plain, tied)]
    assert bits[0] < 0.1
    assert bits[1] > 0.5
    grouped = synthesize(parameters({"within_token": {"kind": "groups", "size": 4, "factor": 1e6}}))
    pairs = np.unique(np.sort(grouped.expert_ids[:, 0], axis=1), axis=0)
    assert len(pairs) == 4 * 6


def test_domains_use_their_own_experts():
    domains = {"names": ("a", "b"), "shares": (1.0, 1.0), "persistence": 0.9}
    part = {"domain_effect": {"kind": "subset", "share": 0.25}}
    given = parameters(part, domains=domains)
    counts = [expert_counts(synthesize(given, domain=name)) for name in "ab"]
    assert ((counts[0] > 0).sum(axis=1) == 4).all()
    assert ((counts[0] > 0) != (counts[1] > 0)).any()
    with pytest.raises(InputError, match="'c' is not a domain"):
        synthesize(given, domain="c")


def test_persistence_makes_runs_of_domains():
    def changes(persistence):
        domains = {"names": ("a", "b"), "shares": (1.0, 1.0), "persistence": persistence}
        part = {"domain_effect": {"kind": "subset", "share": 0.5}}
        short = {"count": 200, "decode_tokens": {"kind": "fixed", "tokens": 20}}
        trace = synthesize(parameters(part, short, domains=domains))
        used = [frozenset(np.unique(ids)) for ids in trace.expert_ids[:, 0].reshape(200, -1)]
        return sum(len(one & other) < 6 for one, other in pairwise(used))

    assert changes(0.95) < changes(0.0) / 2


def test_position_effect_marks_the_first_token():
    row = "9 " + "0 " * (EXPERTS - 1)
    zeros = "0 " * EXPERTS
    effect = {"from_tokens": (0, 1), "log_factors": ((row,) * LAYERS, (zeros,) * LAYERS)}
    trace = synthesize(parameters({"position_effect": effect}))
    first = trace.expert_ids[trace.request_offsets()[:-1]]
    assert (first == 0).any(axis=2).mean() > 0.95
    assert (trace.expert_ids == 0).any(axis=2).mean() < 0.2


def test_an_encoder_and_a_decoder_run_their_own_layers():
    parts = tuple(
        {
            "phases": (phase,),
            "first_layer": first,
            "layers": 1,
            "popularity": {"kind": "zipf", "exponent": (1.0,)},
        }
        for phase, first in (("encode", 0), ("decode", 2))
    )
    requests = {
        "count": 3,
        "encode_tokens": {"kind": "fixed", "tokens": 4},
        "decode_tokens": {"kind": "quantiles", "tokens": (2, 2)},
    }
    values = parameters().model_dump() | {"requests": requests, "parts": parts}
    trace = synthesize(SyntheticTrace(**values))
    assert findings(trace) == []
    encode = trace.phase == Phase.ENCODE
    assert (trace.expert_ids[encode][:, 1:] == NO_EXPERT).all()
    assert (trace.expert_ids[~encode][:, :2] == NO_EXPERT).all()
    assert (trace.expert_ids[encode][:, 0] < EXPERTS).all()
    assert trace.position[:6].tolist() == [0, 1, 2, 3, 0, 1]


def test_prompts_that_are_not_recorded_move_the_answers():
    prompt = {"kind": "lognormal", "median_tokens": 50.0, "spread": 0.5, "most_tokens": 90}
    given = parameters(requests={"prefill_tokens": prompt, "prefill_recorded": False})
    trace = synthesize(given)
    first = trace.position[trace.request_offsets()[:-1]]
    assert (trace.phase == Phase.DECODE).all()
    assert first.min() >= 1
    assert first.max() <= 90
    assert len(set(first.tolist())) > 5


def test_a_domain_with_too_few_experts_is_told():
    part = {"domain_effect": {"kind": "subset", "share": 0.05}}
    with pytest.raises(InputError, match="uses 1 expert of a layer, but top_k = 2"):
        synthesize(parameters(part))


def test_a_tiny_concentration_gives_all_the_weight_to_one_expert():
    given = parameters(gate_weights={"means": (0.7, 0.3), "concentration": 1e-300})
    weights = synthesize(given, requests=1).gate_weights
    assert weights is not None
    assert (weights == (1.0, 0.0)).all()


def test_a_trace_larger_than_the_memory_is_refused_before_it_is_drawn(monkeypatch):
    monkeypatch.setattr(room, "available_bytes", lambda: 10**6)
    assert synthesize(parameters(), requests=10).tokens == 1000
    asked: list[tuple[dict[str, Any], str]] = [
        ({"requests": 10**30}, "--requests"),
        ({"tokens": 10**30}, "--tokens"),
        ({}, "requests.count"),
    ]
    for options, place in asked:
        with pytest.raises(InputError, match=r"this machine has 0.001 GB left") as caught:
            synthesize(parameters(requests={"count": 10**30}), **options)
        (problem,) = caught.value.problems
        assert place in (problem.where, problem.path)
        assert f"{10**30} would take about" in problem.what
        fits = int(problem.what.split()[-3])
        room_for: dict[str, Any] = {"tokens" if "tokens" in options else "requests": fits}
        assert synthesize(parameters(), **room_for).tokens > 1000
    assert synthesize(parameters(), requests=10**30, tokens=150).tokens == 150
    with pytest.raises(InputError, match="make them shorter"):
        synthesize(
            parameters(requests={"decode_tokens": {"kind": "fixed", "tokens": 10**8}}), requests=1
        )


def test_the_estimate_covers_what_numpy_holds():
    given = parameters(gate_weights={"means": (0.7, 0.3), "concentration": 10.0})
    synthesize(given, requests=1)
    tracemalloc.start()
    trace = synthesize(given, requests=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    estimate = room.needed_bytes(given, 300)
    assert trace.tokens == 30_000
    assert 0.5 * estimate < peak < 1.2 * estimate


BASE = """\
title: test
experts: 8
top_k: 2
moe_layer_ids: [0, 1]
requests:
  count: 2
  decode_tokens: {kind: fixed, tokens: 5}
parts:
  - phases: [decode]
    layers: 2
    popularity: {kind: zipf, exponent: [1.0]}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("top_k: 2", "top_k: 9", "3:8: top_k: 9 is more than experts = 8"),
        ("layers: 2", "layers: 3", "ends at layer 3, but there are 2"),
        ("[0, 1]", "[1, 0]", "must rise"),
        ("exponent: [1.0]", "exponent: [1.0, 1.0, 2.0]", "has 3 numbers; write 1, or layers = 2"),
        (
            "zipf, exponent: [1.0]",
            "explicit, weights_by_layer: [1 2, x]",
            "is not a row of numbers",
        ),
        ("zipf, exponent: [1.0]", "explicit, weights_by_layer: [1 2, 1 2]", "2 numbers; write 8"),
        (
            "zipf, exponent: [1.0]",
            "explicit, weights_by_layer: [0 0 0 0 0 0 0 0, 1 1 1 1 1 1 1 -1]",
            "weights must be 0 or more, and not all 0",
        ),
        ("exponent: [1.0]", "exponent: [99.0]", "is too large"),
        ("exponent: [1.0]", "exponent: [1.0], never_used: 1.0", "leaves 0 of the experts"),
        ("layers: 2", "layers: 1000000000000", "less than 65536 is allowed"),
        ("experts: 8", "experts: 65535", "65534 or less is allowed"),
        ("parts:", "domains: {names: [a, a], shares: [1, 1]}\nparts:", "has 'a' twice"),
        ("parts:", "domains: {names: [a, b], shares: [1]}\nparts:", "has 1 number; write one"),
        (
            "{kind: fixed, tokens: 5}",
            "{kind: lognormal, median_tokens: 9, spread: 1, least_tokens: 8, most_tokens: 7}",
            "requests.decode_tokens.least_tokens: 8 is more than most_tokens = 7",
        ),
        ("phases: [decode]", "phases: [encode]", "no part has 'decode' among its phases"),
        (
            "parts:\n",
            "parts:\n  - {phases: [decode], layers: 1, popularity: {kind: zipf, exponent: [1]}}\n",
            "routes decode in layer 0, as a part before it does",
        ),
        ("zipf, exponent: [1.0]", "zpif", "'zpif' is not known"),
        ("count: 2", "count: 0", "is too small"),
        ("{kind: fixed, tokens: 5}", "100", "expected, as in {kind: fixed, tokens: 100}"),
        ("{kind: fixed, tokens: 5}", "[1, 9]", "as in {kind: quantiles, tokens: [1, 9]}"),
        ("exponent: [1.0]", "exponent: 0.8", "a list is expected, as in [0.8]"),
        ("title", "tilte", "is not a known key"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path, old, new, said):
    path = tmp_path / "p.yaml"
    path.write_text(BASE.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_parameters(path)
    assert said in str(caught.value)
    assert "p.yaml:" in str(caught.value)


def test_the_base_of_those_is_right(tmp_path):
    (tmp_path / "p.yaml").write_text(BASE)
    assert synthesize(load_parameters(tmp_path / "p.yaml")).tokens == 10


def test_layers_are_a_range_or_a_list():
    usual = SyntheticTrace.model_fields["moe_layer_ids"]
    annotated: Any = Annotated[usual.annotation, *usual.metadata]
    layers = TypeAdapter[Any](annotated)
    assert layers.validate_python("3-6") == layers.validate_json("[3, 4, 5, 6]", strict=True)
    for wrong in ("6-3", "3-", "3-70000", "3 to 6"):
        with pytest.raises(ValidationError):
            layers.validate_python(wrong)


def test_a_prediction_is_right_as_often_as_it_says():
    plain = synthesize(parameters(), requests=40)
    given = synthesize(parameters(prediction={"right": 0.8}), requests=40)
    assert plain.predicted_ids is None
    assert given.predicted_ids is not None
    assert (given.expert_ids == plain.expert_ids).all()
    used = given.expert_ids != NO_EXPERT
    assert (given.predicted_ids[~used] == NO_EXPERT).all()
    assert given.predicted_ids[used].max() < given.experts
    right = (given.predicted_ids == given.expert_ids)[used].mean()
    assert right == pytest.approx(0.8, abs=0.03)
    all_wrong = synthesize(parameters(prediction={"right": 0.0}), requests=4)
    assert all_wrong.predicted_ids is not None
    same = all_wrong.predicted_ids == all_wrong.expert_ids
    assert not same[all_wrong.expert_ids < NO_EXPERT].any()
