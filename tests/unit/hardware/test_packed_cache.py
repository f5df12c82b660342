"""KV caches in llama.cpp's packed formats: their bytes, and what software takes to unpack them."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.hardware import CostModel, load_hardware
from moesim.hardware.load import as_run_by
from moesim.model import load_model
from moesim.model.chosen import GGML_CACHES
from moesim.model.gguf.types import BY_NAME

MODEL = "qwen3-235b-a22b@q4_k_m"
KEYS = 1_000_000
"""So many that the start of a kernel is nothing beside reading them."""


def scores_ns(software: str | None, cache: str, queries: int = 1) -> float:
    """Of a request of so many queries over many keys, whose cache takes all of the time."""
    model = load_model(f"{MODEL},kv_cache={cache}" if cache else MODEL)
    operation = CostModel(as_run_by("rtx-3090", software), model).operations["attention"]
    block = model.layers[0].attention
    tokens, attended = np.array([queries]), np.array([queries * KEYS])
    parts = operation.scores(block, operation.cache(block), tokens, attended, np.array([KEYS]))
    return float(sum(part.time_ns for part in parts)[0])


@pytest.mark.parametrize("name", GGML_CACHES)
def test_a_packed_cache_has_the_bytes_of_its_blocks(name: str) -> None:
    own, packed = load_model(MODEL), load_model(f"{MODEL},kv_cache={name}")
    elements = 2 * 4 * 128
    assert own.layers[0].attention.kv_bytes_per_token == 2 * elements
    block = BY_NAME[name]
    assert packed.layers[0].attention.kv_bytes_per_token == elements // 32 * block.block_bytes
    latent = load_model(f"deepseek-v3@kv_cache={name}").layers[-1].attention
    assert latent.kv_bytes_per_token == 576 // 32 * block.block_bytes


@pytest.mark.parametrize(("name", "width"), [("q8_0", 34 / 32), ("q4_0", 18 / 32)])
def test_single_queries_read_it_or_have_it_unpacked(name: str, width: float) -> None:
    whole = scores_ns("llama.cpp", "")
    assert scores_ns("llama.cpp", name) / whole == pytest.approx(width / 2, rel=0.01)
    unpacked = (width + 2 + 2) / 2
    assert scores_ns("ik_llama.cpp", name) / whole == pytest.approx(unpacked, rel=0.01)
    assert scores_ns("ik_llama.cpp", "") == whole
    assert scores_ns(None, name) / scores_ns(None, "") == pytest.approx(width / 2, rel=0.01)


def test_llama_cpp_reads_a_cache_at_less_than_weights() -> None:
    """At 78 % of them, whatever the card; what a datasheet says of others stays."""
    assert scores_ns(None, "") / scores_ns("llama.cpp", "") == pytest.approx(0.78, rel=0.01)
    assert scores_ns("vllm", "") == scores_ns(None, "")


def test_more_queries_have_it_unpacked_in_both() -> None:
    """Two of one request: their products are nothing beside what is read."""
    whole = scores_ns("llama.cpp", "", 2)
    for software in ("llama.cpp", "ik_llama.cpp"):
        found = scores_ns(software, "q8_0", 2) / whole
        assert found == pytest.approx((34 / 32 + 4) / 2, rel=0.01)


def test_eight_bits_of_other_engines_are_read_as_they_are() -> None:
    assert load_hardware("rtx-3090").cache_unpacked_from == 0
    assert scores_ns("ik_llama.cpp", "fp8") == scores_ns("llama.cpp", "fp8")


def test_single_queries_over_a_latent_are_bound_by_their_products() -> None:
    """128 heads, 576 values and 576 again; 24 % of a large product's rate for single queries of
    ik_llama.cpp, all of it for others and for prompts.
    """
    model = load_model("deepseek-r1@q4_k_m")

    def added_ns(software: str | None, queries: int = 1) -> float:
        operation = CostModel(as_run_by("rtx-a6000", software), model).operations["attention"]
        block = model.layers[-1].attention
        one, other = (
            sum(
                float(np.sum(part.time_ns))
                for part in operation.scores(
                    block, operation.cache(block), np.array([queries]),
                    np.array([queries * keys]), np.array([keys]),
                )
            )
            for keys in (KEYS, 2 * KEYS)
        )  # fmt: skip
        return other - one

    card = load_hardware("rtx-a6000")
    rate = card.peak("bf16") * card.datasheet.compute_fraction.value
    due = KEYS * 2 * 128 * 2 * 576 / rate * 1e9
    assert added_ns("ik_llama.cpp") == pytest.approx(due / 0.24, rel=0.01)
    assert added_ns("llama.cpp") == pytest.approx(due, rel=0.01)
    assert added_ns(None) == pytest.approx(due, rel=0.01)
    assert added_ns("ik_llama.cpp", 64) == pytest.approx(64 * due, rel=0.01)
