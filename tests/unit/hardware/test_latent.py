"""Multi-head latent attention: decodes over the latent by fits of their own, and its launches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.hardware import CostModel, load_hardware
from moesim.hardware.operations.attention.calibrated import (
    DECODE,
    PREFILL,
    attention_fit_for,
    latent_fit_for,
    of_latents,
)
from moesim.hardware.operations.attention.scores import Cache
from moesim.model import load_model
from moesim.model.slicing import sliced

H200 = load_hardware("h200-sxm")
V3 = load_model("deepseek-v3")


@pytest.mark.parametrize(
    ("batch", "context", "measured_us"), [(16, 2048, 25.64), (4, 8192, 24.68), (64, 4096, 92.08)]
)
def test_decodes_over_a_latent_are_the_tables(batch: int, context: int, measured_us: float) -> None:
    """SGLang's FlashAttention on an H200 with the 16 heads that a GPU of eight has."""
    model = sliced(V3, 8)
    block = model.layers[-1].attention
    assert (block.heads, block.latent, block.kv_bytes_per_token) == (16, True, 2 * 576)
    keys = np.array([batch * context])
    scores = CostModel(H200, model).operations["attention"].scores
    (part, _) = scores(block, Cache("bf16", 2.0, True), np.array([batch]), keys, keys)
    assert part.time_ns[0] / 1e3 == pytest.approx(measured_us, rel=0.05)
    sheet = CostModel(H200, model, "datasheet").operations["attention"].scores
    plain = sum(one.time_ns for one in sheet(block, Cache("bf16", 2.0), batch, keys, keys))
    assert plain[0] < 0.85 * part.time_ns[0]


@pytest.mark.parametrize(
    ("batch", "tokens", "measured_us"), [(1, 1024, 34.1), (1, 8192, 632.8), (16, 1024, 251.8)]
)
def test_prompts_over_a_latent_are_priced_by_a_fit(
    batch: int, tokens: int, measured_us: float
) -> None:
    """TensorRT-LLM's kernel on an H200: keys and values of 16 heads, brought out of the latent."""
    costs = CostModel(H200, sliced(V3, 8))
    keys = np.array([batch * tokens * (tokens + 1) // 2])
    every = np.array([batch * tokens])
    scores = costs.operations["attention"].scores
    block = costs.model.layers[-1].attention
    (part, start) = scores(block, Cache("bf16", 2.0), every, keys, every)
    assert part.time_ns[0] / 1e3 == pytest.approx(measured_us, rel=0.15)
    assert start.time_ns[0] == 0


def test_prompts_over_a_latent_take_no_less_than_a_decode() -> None:
    costs = CostModel(H200, V3)
    tokens = np.array([1, 2, 16, 256, 4096])
    times = costs.attention_ns(V3.layers[-1], tokens, tokens * (tokens + 1) // 2, tokens)
    assert (np.diff(times) >= 0).all()
    assert not load_model("deepseek-v3.2").layers[-1].attention.latent


def test_a_latent_adds_four_launches() -> None:
    layer = V3.layers[-1]
    plain = replace(layer, attention=replace(layer.attention, kind="full"))
    costs = CostModel(H200, V3, "datasheet")
    latent, other = (costs.attention_ns(one, 8, 8, 8) for one in (layer, plain))
    assert latent - other == pytest.approx(4 * costs.gpu.start_ns, abs=2)  # wider keys


def test_fits_of_latents_are_for_latents_alone() -> None:
    for op, size in ((DECODE, 288), (PREFILL, 160)):
        own = latent_fit_for(H200, op, "bf16")
        assert own is not None
        assert own.measured["head_dim"] == (size, size)
    for head_dim in (64, 128, 256, 288, 512):
        for op in (DECODE, PREFILL):
            fit = attention_fit_for(H200, op, "bf16", head_dim)
            assert fit is not None
            assert not of_latents(fit)
