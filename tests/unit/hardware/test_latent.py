"""Multi-head latent attention: decodes over the latent by fits of their own, and its launches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.hardware import CostModel, load_hardware
from moesim.hardware.operations.attention.calibrated import (
    DECODE,
    attention_fit_for,
    latent_fit_for,
    reads_latents,
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


def test_prompts_over_a_latent_keep_the_datasheets_scores_above_a_decodes() -> None:
    block = sliced(V3, 8).layers[-1].attention
    tokens = np.array([2, 4096])
    keys = tokens * (tokens + 1) // 2
    found = [
        CostModel(H200, V3, prices)
        .operations["attention"]
        .scores(block, Cache("bf16", 2.0), tokens, keys, tokens)
        for prices in ("auto", "datasheet")
    ]
    fitted, sheet = (sum(part.time_ns for part in parts) for parts in found)
    assert fitted[1] == pytest.approx(sheet[1])
    assert sheet[0] < fitted[0] == pytest.approx(11_700, rel=0.05)
    assert not load_model("deepseek-v3.2").layers[-1].attention.latent


def test_a_latent_adds_four_launches() -> None:
    layer = V3.layers[-1]
    plain = replace(layer, attention=replace(layer.attention, kind="full"))
    costs = CostModel(H200, V3, "datasheet")
    latent, other = (costs.attention_ns(one, 8, 8000, 8000) for one in (layer, plain))
    assert latent - other == 4 * costs.gpu.start_ns


def test_fits_of_latents_are_for_latents_alone() -> None:
    own = latent_fit_for(H200, "bf16")
    assert own is not None
    assert own.measured["head_dim"] == (288, 288)
    for head_dim in (64, 128, 256, 288, 512):
        fit = attention_fit_for(H200, DECODE, "bf16", head_dim)
        assert fit is not None
        assert not reads_latents(fit)
