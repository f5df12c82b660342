"""Rows of a tile, by the rules of the kernels' code."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.hardware import CostModel, load_hardware
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.load import load_software
from moesim.hardware.row_tiles import MMQ, tiling
from moesim.model import load_model


@pytest.mark.parametrize(
    ("maker", "tokens", "rows", "tile"),
    [
        (None, 1, 1, 8),
        (None, 9, 1, 16),
        (None, 50, 3, 64),
        (None, 128, 8, 128),
        (None, 129, 9, 80),  # two of 65 rows
        (None, 512, 32, 128),
        ("AMD", 512, 32, 32),
        ("AMD", 2048, 130, 80),
        ("Apple", 512, 32, 16),
        ("Apple", 32, 2, 16),
        ("Apple", 31, 2, 1),
    ],
)
def test_tiles_of_ggml(maker: str | None, tokens: int, rows: int, tile: int) -> None:
    found = tiling("ggml", maker)(np.array([tokens]), np.array([rows]))
    assert found.tolist() == [tile]


@pytest.mark.parametrize(
    ("maker", "tokens", "tile"),
    [(None, 129, 80), ("AMD", 2048, 80), ("Apple", 512, 32), ("Apple", 31, 1)],
)
def test_tiles_of_ggml_before_metal_had_halves(maker: str | None, tokens: int, tile: int) -> None:
    found = tiling("ggml-whole", maker)(np.array([tokens]), np.array([130]))
    assert found.tolist() == [tile]


def test_32_requests_on_metal_compute_whole_tiles_until_summer_2026() -> None:
    """A row of each of 128 experts: 32 rows are multiplied, since then 16; nothing else differs."""
    model, card = load_model("qwen3-30b-a3b@q8_0"), load_hardware("m2-ultra-192gb")
    rows = []
    for name in ("llama.cpp@b8xxx", "llama.cpp"):
        costs = CostModel(with_engine(card, load_software(name)), model)
        found = costs.expert_tiles(model.moe_layers[-1], np.array([32 * 8]))
        assert found is not None
        rows.append(found.rows.tolist())
    assert rows == [[32], [16]]


@pytest.mark.parametrize(("form", "tile"), [("q4_k_m", 128), ("", 64)])
def test_weights_in_16_bits_are_other_kernels(form: str, tile: int) -> None:
    model = load_model(f"qwen3-30b-a3b@{form}" if form else "qwen3-30b-a3b")
    costs = CostModel(with_engine(load_hardware("rtx-4090"), load_software("llama.cpp")), model)
    found = costs.expert_tiles(model.moe_layers[-1], np.array([512 * 8]))
    assert found is not None
    assert found.rows.tolist() == [tile]


@pytest.mark.parametrize(("form", "dearer"), [("q4_k_m", False), ("", True)])
def test_rows_that_whole_weights_pay_once_are_not_those_of_ggmls_tiles(
    form: str, dearer: bool
) -> None:
    """A V100 reaches half of its rate with 128 rows of fp16: by its 32 GB profile, not its part."""
    model = load_model(f"qwen3-30b-a3b@{form}" if form else "qwen3-30b-a3b")
    times = []
    for name in ("v100-sxm2-32gb", "v100-sxm2-16gb"):
        card = with_engine(load_hardware(name), load_software("llama.cpp"))
        times.append(int(CostModel(card, model).head_ns(1)))
    assert (times[0] > 1.3 * times[1]) is dearer


def test_tiles_of_ggml_are_the_least_that_cut_as_few_times() -> None:
    """As ``mul_mat_q_switch_J`` finds them, one after the other."""
    tokens = np.arange(1, 1500)
    expected = [_tried(count) for count in tokens.tolist()]
    assert tiling("ggml", None)(tokens, tokens).tolist() == expected


def _tried(tokens: int) -> int:
    best, fewest = 0, 1 << 30
    for tile in MMQ.tolist():
        if fewest > 1 and -(-tokens // tile) < fewest:
            best, fewest = tile, -(-tokens // tile)
    return best


def test_a_ubatch_of_llama_cpp_computes_whole_tiles_for_every_expert() -> None:
    """512 tokens are 32 rows an expert in the mean, in tiles of 128 where Triton has 64."""
    model, card = load_model("qwen3-30b-a3b@q4_k_m"), load_hardware("rtx-4090")
    layer = model.moe_layers[-1]
    assert layer.moe is not None
    costs = [
        CostModel(with_engine(card, load_software(name)), model) for name in ("ideal", "llama.cpp")
    ]
    triton, ggml = (int(one.experts_ns(layer, np.full(128, 32), [0])[0]) for one in costs)
    more = 2 * layer.moe.expert.matrix_elements * 128 * (128 - 64)
    starts = 4 * costs[1].gpu.start_ns - 3 * costs[0].gpu.start_ns
    rows = costs[0].gpu.operations_ns(more, "bf16")
    assert ggml - triton == pytest.approx(rows + starts, abs=1)


def test_metal_reads_an_expert_for_each_of_few_tokens() -> None:
    """By hand: 31 tokens that choose the same 8 experts read 248, 32 of them 8."""
    read = {}
    for form in ("q8_0", "bf16"):
        model = load_model("qwen3-30b-a3b@q8_0" if form == "q8_0" else "qwen3-30b-a3b")
        card = with_engine(load_hardware("m2-ultra-192gb"), load_software("llama.cpp"))
        layer, costs = model.moe_layers[-1], CostModel(card, model)
        assert layer.moe is not None
        for tokens in (31, 32):
            (launch, *_) = costs.operations["experts"].parts(layer, np.full(8, tokens), [0])
            one = costs.gpu.weights_ns(layer.moe.expert.bytes)
            read[form, tokens] = float(launch.time_ns[0] / one)
    assert read["q8_0", 31] == pytest.approx(248)
    assert 8 <= read["q8_0", 32] < 12  # of which the products are the longer
    assert read["bf16", 31] < 10


def test_tokens_that_choose_fewer_are_told() -> None:
    """By hand: 32 tokens that choose the same 6 of 8 experts read 6; by rows they would be 24."""
    model = load_model("qwen3-30b-a3b@q8_0")
    card = with_engine(load_hardware("m2-ultra-192gb"), load_software("llama.cpp"))
    layer, costs = model.moe_layers[-1], CostModel(card, model)
    assert layer.moe is not None
    one = costs.gpu.weights_ns(layer.moe.expert.bytes)
    read = []
    for told in (None, 24, 32):
        tokens = None if told is None else np.array([told])
        (launch, *_) = costs.operations["experts"].parts(layer, np.full(6, 32), [0], tokens)
        read.append(float(launch.time_ns[0] / one))
    assert read[0] == read[1] == pytest.approx(6 * 32)
    assert 6 <= read[2] < 9
