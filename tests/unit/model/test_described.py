"""Configurations of families that nobody has described, read by what their keys mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moesim.model import ModelSpec, load_model
from moesim.model.described import describe_config
from moesim.model.slicing import sliced

TEXT: dict[str, Any] = {
    "model_type": "new_moe", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "moe_intermediate_size": 32, "intermediate_size": 96,
    "num_experts": 8, "num_experts_per_tok": 2, "vocab_size": 100,
}  # fmt: skip
EXPERT, ATTENTION = 3 * 64 * 32, 64 * (2 * 64 + 2 * 32)


def described(**changes: Any) -> ModelSpec:
    return describe_config({**TEXT, **changes}, "made")


def kinds(model: ModelSpec) -> list[str]:
    return [layer.attention.kind for layer in model.layers]


def test_a_plain_model_is_counted_from_its_shapes() -> None:
    model = described()
    layer = 8 * EXPERT + 8 * 64 + ATTENTION + 2 * 64
    assert model.parameters == 4 * layer + 2 * 100 * 64 + 64
    assert model.active_parameters == model.parameters - 4 * 6 * EXPERT - 100 * 64
    assert model.bytes == 2 * model.parameters
    assert model.notes == ()


SAME = [
    {"n_routed_experts": 8, "num_experts": None},
    {"moe_num_experts": 8, "num_experts": None},
    {"moe_topk": 2, "num_experts_per_tok": None},
    {"num_experts_per_token": 2, "num_experts_per_tok": None},
    {"d_model": 64, "hidden_size": None},
    {"n_layers": 4, "num_hidden_layers": None},
    {"expert_ffn_hidden_size": 32, "moe_intermediate_size": None},
    {"moe_topk": [2, 2, 2, 2], "num_experts_per_tok": None},
    {"moe_layer_freq": [1, 1, 1, 1]},
    {"mlp_layer_types": ["sparse"] * 4},
    {"moe_layers_enum": "0,1,2,3"},
]


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_a_key_by_another_name_means_the_same(changes: dict[str, Any]) -> None:
    assert described(**changes) == described()


DENSE_FIRST = [
    {"first_k_dense_replace": 1},
    {"num_dense_layers": 1},
    {"mlp_only_layers": [0]},
    {"moe_layers_enum": "1,2,3"},
    {"moe_layer_freq": [0, 1, 1, 1]},
    {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
    {"moe_layers": [1, 2, 3]},
]


@pytest.mark.parametrize("changes", DENSE_FIRST, ids=str)
def test_dense_layers_are_said_in_many_ways(changes: dict[str, Any]) -> None:
    model = described(**changes)
    assert [layer.moe is not None for layer in model.layers] == [False, True, True, True]
    assert model.layers[0].dense is not None
    assert model.layers[0].dense.intermediate_size == 96


@pytest.mark.parametrize("wrapper", ["text_config", "llm_config", "language_config"])
def test_a_multimodal_model_is_its_language_model(wrapper: str) -> None:
    tower = {"hidden_size": 8, "num_hidden_layers": 2}
    whole = {
        "model_type": "new_vl", wrapper: TEXT, "vision_config": tower, "torch_dtype": "float32",
        "tie_word_embeddings": True,
    }  # fmt: skip
    model = describe_config(whole, "made")
    assert model.parameters == described(tie_word_embeddings=True).parameters
    assert model.bytes == 4 * model.parameters
    assert "towers" in model.notes[0]


PATTERNS = [
    ({"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 16}, "SFSF"),
    ({"hybrid_layer_pattern": [0, 1, 1, 0], "sliding_window": 16}, "FSSF"),
    ({"sliding_window_pattern": 2, "sliding_window": 16}, "SFSF"),
    ({"sliding_window_pattern": "LLG", "sliding_window": 16}, "SSFS"),
    ({"global_attn_every_n_layers": 4, "sliding_window": 16}, "SSSF"),
    ({"sliding_window": 16}, "SSSS"),
    ({"sliding_window": 16, "use_sliding_window": False}, "FFFF"),
]


@pytest.mark.parametrize(("changes", "expected"), PATTERNS, ids=str)
def test_windows_by_layer(changes: dict[str, Any], expected: str) -> None:
    windows = [layer.attention.window for layer in described(**changes).layers]
    assert windows == [{"S": 16, "F": None}[letter] for letter in expected]


LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"full_attention_interval": 2}, {"layer_types": ["linear_attention", "full_attention"] * 2}],
)
def test_linear_attention_has_a_constant_state_and_no_cache(changes: dict[str, Any]) -> None:
    model = described(**changes, **LINEAR)
    block = model.layers[0].attention
    assert kinds(model) == ["gated delta net", "full"] * 2
    assert block.state_bytes == 4 * 8 * 16 * 4 + (2 * 16 + 64) * 4 * 2
    # a window of 64 tokens that take as much as the state
    assert block.window == 64
    assert 0 <= block.window * block.kv_bytes_per_token - block.state_bytes < 64
    assert any("constant state" in note for note in model.notes)


def test_kimi_lists_count_from_one_and_others_from_zero() -> None:
    linear = {"num_heads": 4, "head_dim": 8, "kda_layers": [1, 3], "full_attn_layers": [2, 4]}
    expected = ["Kimi delta attention", "full"] * 2
    assert kinds(described(linear_attn_config=linear)) == expected
    linear |= {"kda_layers": [0, 2], "full_attn_layers": [1, 3]}
    assert kinds(described(linear_attn_config=linear)) == expected


MAMBA = {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"hybrid_override_pattern": "ME*E-"},
        {"layers_block_type": ["mamba", "moe", "attention", "moe", "mlp"]},
    ],
)
def test_layers_may_be_one_block_each(changes: dict[str, Any]) -> None:
    model = described(**changes, **MAMBA, num_hidden_layers=None, mlp_hidden_act="relu2")
    assert kinds(model) == ["Mamba2", "none", "full", "none", "none"]
    assert [bool(layer.moe) for layer in model.layers] == [False, True, False, True, False]
    assert [layer.norm_parameters for layer in model.layers] == [64] * 5
    assert model.layers[0].dense is None
    moe = model.layers[1].moe
    assert moe is not None
    assert moe.expert.parameters == 2 * 64 * 32  # relu2 has no gate


def test_experts_in_a_smaller_space_have_matrices_around_them() -> None:
    moe = described(moe_latent_size=16, n_shared_experts=1).layers[0].moe
    assert moe is not None
    assert moe.expert.parameters == 3 * 16 * 32
    assert moe.shared is not None
    assert moe.shared.parameters == 3 * 64 * 32 + 2 * 64 * 16
    assert moe.router_parameters == 8 * 64


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({"n_shared_experts": 2}, 64),
        ({"shared_expert_intermediate_size": 48}, 48),
        ({"n_shared_experts": 2, "shared_expert_intermediate_size": 64}, 64),
        ({"n_shared_experts": 2, "shared_expert_intermediate_size": 48}, 96),
        ({"share_expert_dim": 40, "n_shared_experts": 1}, 40),
    ],
)
def test_shared_experts_are_one_network(changes: dict[str, Any], width: int) -> None:
    moe = described(**changes).layers[0].moe
    assert moe is not None
    assert moe.shared is not None
    assert moe.shared.intermediate_size == width


def test_no_shared_experts_are_none() -> None:
    moe = described(n_shared_experts=0, shared_intermediate_size=0).layers[0].moe
    assert moe is not None
    assert moe.shared is None


LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}  # fmt: skip
INDEX = {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 32}


def test_an_index_is_read_whole_and_the_latent_for_the_selected() -> None:
    plain, sparse = described(**LATENT), described(**LATENT, **INDEX)
    block, before = sparse.layers[0].attention, plain.layers[0].attention
    assert before.kv_bytes_per_token == 2 * (16 + 4)
    assert block.kv_bytes_per_token - before.kv_bytes_per_token == 2 * 8
    assert (block.index_bytes_per_token, block.selected) == (2 * 8, 32)
    index = 2 * 8 * 24 + 8 * 64 + 2 * 64 + 2 * 8
    assert block.parameters - before.parameters == index


def test_layers_that_share_an_index_have_none_of_their_own() -> None:
    types = ["full", "shared", "shared", "full"]
    model = described(**LATENT, **INDEX, indexer_types=types)
    sizes = [layer.attention.index_bytes_per_token for layer in model.layers]
    assert sizes == [16, 0, 0, 16]
    assert {layer.attention.selected for layer in model.layers} == {32}


@pytest.mark.parametrize(
    ("word", "known"),
    [("hyena", False), ("wavelet_attention", False), ("self_attn", True), ("Attention", True)],
)
def test_attention_that_nobody_knows_is_counted_as_grouped_and_said(word: str, known: bool) -> None:
    model = described(layer_types=[word] * 4)
    assert model.parameters == described().parameters
    said = f"attention '{word}' is not known: it is counted as grouped attention"
    assert model.notes == (() if known else (said,))


def test_attention_without_sizes_is_four_matrices() -> None:
    model = described(num_attention_heads=None, num_key_value_heads=None)
    assert model.layers[0].attention.parameters == 4 * 64 * 64
    assert "no key says the attention's heads" in model.notes[0]


def test_layers_for_further_tokens_are_counted_apart() -> None:
    model = described(num_nextn_predict_layers=2)
    assert model.parameters == described().parameters
    layer = model.layers[-1]
    assert model.mtp_layers == 2
    assert model.mtp_parameters == 2 * (layer.parameters + 2 * 64 * 64 + 3 * 64)


def moe_bytes(model: ModelSpec) -> tuple[int, int]:
    moe, attention = model.layers[0].moe, model.layers[0].attention
    assert moe is not None
    return moe.expert.bytes, attention.bytes


FP4 = 3 * (64 * 32 * 9 // 16 + 8)
QUANTISED: list[tuple[dict[str, Any], int, int]] = [
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, EXPERT + 3 * 4, ATTENTION + 4 * 4),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["*.self_attn.*"]},
     FP4, 2 * ATTENTION),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": [
        f"model.language_model.layers.{layer}.attn*" for layer in range(4)]}, FP4, 2 * ATTENTION),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        "backbone.layers.0.ffn.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}},
     FP4, 2 * ATTENTION),
    ({"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*"], "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {
            "num_bits": 4, "type": "int", "group_size": 32}}}},
     EXPERT // 2 + 2 * EXPERT // 32, 2 * ATTENTION),
    ({"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized", "config_groups": {
        "group_0": {"targets": ["re:.*experts.*"], "weights": {"num_bits": 4, "type": "float"}}}},
     EXPERT * 17 // 32, 2 * ATTENTION),
    ({"quant_method": "quark", "exclude": ["*self_attn*"], "global_quant_config": {
        "weight": {"dtype": "fp4", "group_size": 32}}}, EXPERT * 17 // 32, 2 * ATTENTION),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 32, "ignore": ["self_attn"]},
     EXPERT // 2 + 2 * EXPERT // 32, 2 * ATTENTION),
    ({"quant_method": "fp8", "weight_block_size": [32, 32], "scale_fmt": "ue8m0",
      "expert_dtype": "fp4"}, EXPERT * 17 // 32, ATTENTION + ATTENTION // 1024),
]  # fmt: skip


@pytest.mark.parametrize(("block", "expert", "attention"), QUANTISED, ids=lambda one: str(one)[:60])
def test_a_quantisation_by_module(block: dict[str, Any], expert: int, attention: int) -> None:
    model = described(quantization_config=block)
    assert moe_bytes(model) == (expert, attention)
    assert model.embedding_bytes == 2 * model.embedding_parameters
    assert model.head_bytes == 2 * model.head_parameters
    assert model.notes == ()


def test_a_head_is_quantised_where_it_is_named() -> None:
    layers = {"lm_head": {"quant_algo": "FP8"}}
    block = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": layers,
    }
    model = described(quantization_config=block)
    assert model.head_bytes == 100 * 64 + 8


def test_a_quantisation_that_nobody_knows_is_said() -> None:
    model = described(quantization_config={"quant_method": "vptq"})
    assert model.bytes == 2 * model.parameters
    assert "quantization 'vptq' is not known" in model.notes[0]


def test_a_quantisation_file_lies_beside_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "a_config.json").write_text(json.dumps(TEXT), encoding="utf-8")
    plan = {"quantization": {"quant_algo": "FP8"}}
    (tmp_path / "a_hf_quant_config.json").write_text(json.dumps(plan), encoding="utf-8")
    model = load_model(str(tmp_path / "a_config.json"))
    assert moe_bytes(model)[0] == EXPERT + 3 * 8


ROOT = Path(__file__).parents[3]
COLLECTED = ROOT.parent / "shared" / "data" / "configs"
PUBLISHED = {
    "MiniMaxAI--MiniMax-M2.5": (229, 10), "Qwen--Qwen3-235B-A22B-FP8": (235, 22),
    "Qwen--Qwen3-VL-30B-A3B-Instruct": (30.5, 3.3), "Qwen--Qwen3.5-122B-A10B": (122, 10),
    "Qwen--Qwen3.5-35B-A3B": (35, 3), "Qwen--Qwen3.8-2.4T-A95B": (2400, 95),
    "XiaomiMiMo--MiMo-V2-Flash": (309, 15), "deepseek-ai--DeepSeek-R1": (671, 37),
    "deepseek-ai--DeepSeek-V3.2": (671, 37), "deepseek-ai--DeepSeek-V4-Flash": (284, 13),
    "google--gemma-4-26B-A4B": (25.2, 3.8),
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": (107.8, 17.2),
    "moonshotai--Kimi-K2-Instruct": (1026, 32.9), "moonshotai--Kimi-K2.5": (1026, 32.9),
    "nvidia--GLM-5-NVFP4": (744, 40), "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (31.6, 3.2),
    "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": (550, 55),
    "nvidia--Qwen3.6-35B-A3B-NVFP4": (35, 3), "stepfun-ai--Step-3.7-Flash": (196, 11),
    "zai-org--GLM-5": (744, 40),
}  # fmt: skip
"""Billions of parameters, and of active ones, as published."""


@pytest.fixture
def collected() -> Path:
    if not COLLECTED.is_dir():
        pytest.skip("the collected configurations are not here")
    return COLLECTED


def test_every_collected_configuration_opens(collected: Path) -> None:
    for path in sorted(collected.glob("*_config.json")):
        if "hf_quant" not in path.name:
            model = load_model(str(path))
            assert model.moe_layers, path.name
            assert model.bytes > model.parameters / 4, path.name


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_collected_configuration_has_the_published_size(collected: Path, name: str) -> None:
    model, (total, active) = load_model(str(collected / f"{name}_config.json")), PUBLISHED[name]
    assert model.parameters / 1e9 == pytest.approx(total, rel=0.02)
    assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.1)


def test_gpus_share_a_state_and_what_is_not_there() -> None:
    model = described(hybrid_override_pattern="ME*E", num_hidden_layers=None, **MAMBA)
    whole, part = model.layers[0].attention, sliced(model, 2).layers[0].attention
    assert part.state_bytes == -(-whole.state_bytes // 2)
    assert part.kv_bytes_per_token == -(-whole.kv_bytes_per_token // 2)
    assert sliced(model, 2).layers[1].attention.kind == "none"
