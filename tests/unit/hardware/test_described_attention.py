"""Prices of attention that nobody has described: the bytes that it reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model
from moesim.model.spec import NO_ATTENTION

CARD = load_hardware("rtx-4060-8gb")
RATE = CARD.datasheet.memory_bandwidth.value * CARD.datasheet.bandwidth_fraction.value / 1e9


def scores(name: str, layer: int, tokens: int, context: int, cached: int) -> float:
    """Nanoseconds of the scores alone."""
    model = load_model(name)
    operation = CostModel(CARD, model).operations["attention"]
    shape = (np.array([tokens]), np.array([context]), np.array([cached]))
    parts = operation.parts(model.layers[layer], *shape)
    return next(float(part.time_ns[0]) for part in parts if part.name == "scores")


def test_a_state_is_read_and_written_in_every_step() -> None:
    block = load_model("qwen3.5-35b-a3b").layers[0].attention
    window = block.window
    assert window
    # 4 requests, each beyond the window that stands for the state
    found = scores("qwen3.5-35b-a3b", 0, 4, 4 * window, 4 * window)
    assert abs(found - 2 * 4 * block.state_bytes / RATE) < 0.001 * found


def test_an_index_is_read_whole_and_the_rest_of_what_it_selects() -> None:
    name, context = "deepseek-v3.2", 100_000
    latent, index = 2 * (512 + 64), 2 * 128
    found = scores(name, 5, 1, context, context)
    assert abs(found - (context * index + 2048 * latent) / RATE) < 0.001 * found
    short = scores(name, 5, 1, 1000, 1000)
    assert abs(short - 1000 * (latent + index) / RATE) < 0.001 * short


def test_a_layer_without_attention_costs_none() -> None:
    model = load_model("nemotron-3-nano")
    costs = CostModel(CARD, model)
    alone = next(layer for layer in model.layers if layer.attention == NO_ATTENTION)
    assert costs.attention_ns(alone, 1, 1000, 1000) == 0
    mamba = model.layers[0]
    assert mamba.dense is None
    assert costs.dense_ns(mamba, 1) == 0
    assert costs.attention_ns(mamba, 1, 128, 128) > 0


def test_plain_attention_is_priced_as_ever() -> None:
    model = load_model("gpt-oss-20b")
    named = replace(model.layers[0], attention=replace(model.layers[0].attention, kind="other"))
    costs = CostModel(load_hardware("h100-sxm"), model)
    shape = (np.array([1, 8]), np.array([500, 4000]), np.array([500, 4000]))
    assert (costs.attention_ns(named, *shape) == costs.attention_ns(model.layers[0], *shape)).all()
