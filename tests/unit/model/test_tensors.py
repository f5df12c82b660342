"""Weights as tensors."""

from __future__ import annotations

import pytest

from moesim.config.amounts.sizes import MIB
from moesim.model import load_model
from moesim.model.tensors import of_network, tensors_of


@pytest.mark.parametrize("name", ["lm-52b", "nllb-moe-54b", "gpt-oss-20b", "mixtral-8x7b"])
def test_they_are_the_model_s_weights_but_for_norms_and_biases(name: str) -> None:
    model = load_model(name)
    experts = [layer.moe.experts for layer in model.moe_layers if layer.moe]
    size = sum(one * count for one, count in tensors_of(model, experts))
    assert 0.99 * model.bytes < size <= model.bytes


def test_of_the_study_s_models_by_hand() -> None:
    """Experts of two matrices of 8 MiB (1024 x 4096) and of 32 MiB (2048 x 8192), in fp16."""
    for name, mib, attention in (("lm-52b", 8, 2), ("nllb-moe-54b", 32, 8)):
        model = load_model(name)
        sizes = tensors_of(model, [3] * len(model.moe_layers))
        assert (mib * MIB, 6) in sizes
        of_attention = [one for one, _ in sizes if 0 < one - attention * MIB < 8192]  # biases
        blocks = sum(1 + (layer.cross_attention is not None) for layer in model.layers)
        assert len(of_attention) == 4 * blocks


def test_experts_that_are_not_there_have_none() -> None:
    model = load_model("lm-52b")
    without, with_two = (tensors_of(model, [n] * len(model.moe_layers)) for n in (0, 2))
    more = sum(size * count for size, count in with_two) - sum(s * n for s, n in without)
    assert more == len(model.moe_layers) * 2 * 2 * 8 * MIB


def test_a_gated_network_has_three() -> None:
    moe = load_model("mixtral-8x7b").moe_layers[0].moe
    assert moe is not None
    ((size, count),) = of_network(moe.expert, 2)
    assert (size, count) == (4096 * 14336 * 2, 6)
