"""A KV cache in fp8: half the bytes in memory, twice the blocks, attention's prices by fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model
from moesim.model.slicing import sliced

MODEL = "gpt-oss-20b"
WORKLOAD = {
    "requests": 6,
    "lengths": {"kind": "fixed", "input_len": 40, "output_len": 10},
    "routing": {"kind": "draw", "prompts_from": "decode"},
    "batching": {
        "kind": "continuous",
        "scheduler": {"kind": "vllm", "max_num_batched_tokens": 64, "max_num_seqs": 4},
    },
}


def experiment(cache: bool, **choices: Any) -> Any:
    model: Any = {"base": MODEL, "format": {"kv_cache": "fp8"}} if cache else MODEL
    given = {
        "model": model,
        "hardware": "b200-sxm",
        "trace": "traces/quickstart.parquet",
        "records": "step",
        "workload": WORKLOAD,
        **choices,
    }
    return load_experiment(given).experiment


def test_the_same_room_holds_twice_the_blocks() -> None:
    one, two = (build(experiment(cache)).case.kv_pool for cache in (False, True))
    assert one is not None
    assert two is not None
    assert 2 * one.blocks <= two.blocks <= 2 * one.blocks + 1000
    own, chosen = load_model(MODEL), load_model(f"{MODEL}@kv_cache=fp8")
    assert one.block_bytes(own) == 2 * two.block_bytes(chosen)


def test_memory_of_static_batches_is_half() -> None:
    plain = {"requests": 1, "context": "16k"}
    one, two = (
        build(experiment(cache, workload=plain), 20).footprint.parts["kv_cache"]
        for cache in (False, True)
    )
    assert np.array_equal(one, 2 * two)


@pytest.mark.parametrize("hardware", ["b200-sxm", "h200-sxm"])
def test_engines_agree(hardware: str) -> None:
    given = [experiment(True, engine=one, hardware=hardware) for one in ("des", "replay")]
    des, replay = (simulate(one) for one in given)
    assert des.summary["duration_ms"] == replay.summary["duration_ms"]
    assert des.summary["mean_ttft_ms"] == replay.summary["mean_ttft_ms"]


@pytest.mark.parametrize(
    ("hardware", "batch", "context", "measured_us"),
    [("b200-sxm", 64, 8192, 93.5), ("b200-sxm", 16, 32_768, 89.8), ("h200-sxm", 64, 8192, 231.6)],
)
def test_decodes_over_a_cache_in_fp8_are_the_tables(
    hardware: str, batch: int, context: int, measured_us: float
) -> None:
    """Of gpt-oss-120b's 64 heads of 64 on 8 key-value heads, vLLM 0.24."""
    profile = load_hardware(hardware)
    times = []
    for name in ("gpt-oss-120b@kv_cache=fp8", "gpt-oss-120b"):
        model = load_model(name)
        block = next(layer.attention for layer in model.layers if layer.attention.window is None)
        attention = CostModel(profile, model).operations["attention"]
        keys = np.array([batch * context])
        scores = attention.scores(block, attention.cache(block), np.array([batch]), keys, keys)
        times.append(sum(part.time_ns for part in scores)[0] / 1e3)
    assert times[0] == pytest.approx(measured_us, rel=0.05)
    assert times[0] < times[1]


def test_a_slice_has_its_part_of_the_latent_and_of_heads() -> None:
    latent = sliced(load_model("deepseek-v3@kv_cache=fp8"), 8).layers[5].attention
    heads = sliced(load_model("gpt-oss-120b@kv_cache=fp8"), 8).layers[5].attention
    assert (latent.kv_bytes_per_token, latent.cache_dtype) == (576, "fp8")
    assert (heads.kv_bytes_per_token, heads.cache_dtype) == (2 * 64, "fp8")
