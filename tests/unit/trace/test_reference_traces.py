"""The shipped parameters give the reference study's activation patterns, and fit its models."""

from __future__ import annotations

import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.trace import Phase
from moesim.trace.statistics.patterns import activation_pattern
from moesim.trace.synthesis import load_parameters, synthesize
from tests.unit.trace.conftest import build

FOLDER = "experiments/reference_study"


def pattern(name, domain, phase, size):
    trace = synthesize(load_parameters(f"{FOLDER}/{name}.yaml"), requests=size, domain=domain)
    return activation_pattern(trace, phase, size, 8)


@pytest.mark.parametrize(
    ("domain", "low", "high"),
    [("wikipedia", 0.25, 0.35), ("pubmed", 0.35, 0.5), ("github", 0.5, 0.65)],
)
def test_language_model(domain, low, high):
    found = pattern("lm", domain, Phase.PREFILL, 8)
    assert found.active_share > 0.95
    assert low < found.busiest_gpu_share < high
    assert found.busiest_expert_share < 0.4


@pytest.mark.parametrize(
    ("domain", "low", "high"),
    [("french", 0.38, 0.5), ("japanese", 0.5, 0.7), ("asturian", 0.75, 0.9)],
)
def test_translation(domain, low, high):
    encoder = pattern("mt", domain, Phase.ENCODE, 48)
    assert encoder.active_share > 0.9
    assert low < encoder.busiest_gpu_share < high
    assert encoder.busiest_expert_share < 0.5
    decoder = pattern("mt", domain, Phase.DECODE, 96)
    assert decoder.active_share < 38 / 128
    assert 0.5 <= decoder.persistence <= 0.92


@pytest.mark.parametrize("name", ["lm", "mt"])
def test_traces_fit_their_models(name):
    parameters = load_parameters(f"{FOLDER}/{name}.yaml")
    trace = synthesize(parameters, requests=1)
    assert parameters.model is not None
    model = load_model(parameters.model)
    trace.check_fits(model)
    layers = [number for number, layer in enumerate(model.layers) if layer.moe]
    assert list(parameters.moe_layer_ids) == layers


def test_patterns_by_hand():
    ids = [[[0]], [[1]], [[0]], [[1]], [[2]], [[1]]]
    found = activation_pattern(build(ids, [3, 3], experts=4), Phase.DECODE, 2, 2)
    assert found.batches == 3
    assert found.active_share == pytest.approx((2 + 2 + 2) / 12)
    assert found.busiest_gpu_share == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.persistence == pytest.approx((0.5 + 0.5) / 2)
    with pytest.raises(InputError, match="no 3 requests"):
        activation_pattern(build(ids, [3, 3], experts=4), Phase.DECODE, 3, 2)
