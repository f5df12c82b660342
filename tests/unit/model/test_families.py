"""What families make of a configuration, counted here from the shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moesim.model import ModelSpec, MoeSpec, describe, load_model, model_names
from moesim.model.loader import CARDS

SMALL = {
    "model_type": "moe_decoder",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 100,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}


@pytest.fixture
def load(tmp_path: Path):
    def build(config: dict[str, Any]) -> ModelSpec:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return load_model(str(tmp_path))

    return build


def card(name: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8")), **changes}


def mixture(model: ModelSpec) -> MoeSpec:
    moe = model.moe_layers[-1].moe
    assert moe is not None
    return moe


@pytest.mark.parametrize("name", model_names())
def test_parts_add_up(name: str) -> None:
    model = load_model(name)
    rows = describe(model)["parts"]
    assert sum(row["parameters"] for row in rows) == model.parameters
    assert sum(row["bytes"] for row in rows) == model.bytes
    assert json.loads(json.dumps(describe(model))) == describe(model)


@pytest.mark.parametrize("name", model_names())
def test_layers_are_numbered_through_encoder_first(name: str) -> None:
    model = load_model(name)
    assert [layer.index for layer in model.layers] == list(range(len(model.layers)))
    assert model.encoder_layers + model.decoder_layers == model.layers
    assert model.has_encoder == (name in ("nllb-moe-54b", "switch-base-128"))


@pytest.mark.parametrize("name", model_names())
def test_every_card_says_where_it_comes_from(name: str) -> None:
    assert len(card(name)["source"]) > 20


def test_gpt_oss_expert_is_packed_with_plain_biases() -> None:
    expert = mixture(load_model("gpt-oss-20b")).expert
    weights, biases = 3 * 2880 * 2880, 3 * 2880
    assert expert.parameters == weights + biases
    assert expert.bytes == weights * 17 // 32 + 2 * biases
    assert (expert.gated, expert.dtype) == (True, "mxfp4")


def test_gpt_oss_alternates_windows() -> None:
    windows = [layer.attention.window for layer in load_model("gpt-oss-20b").layers]
    assert windows == [128, None] * 12


def test_gpt_oss_without_quantisation_is_bf16(load) -> None:
    model = load(card("gpt-oss-20b", quantization_config=None))
    assert model.bytes == 2 * model.parameters


def test_deepseek_v3_first_layers_are_dense_and_fp8() -> None:
    model = load_model("deepseek-v3")
    assert [layer.moe is None for layer in model.layers] == [True] * 3 + [False] * 58
    expert = mixture(model).expert
    assert expert.bytes == 3 * 7168 * 2048 + 3 * (7168 // 128) * (2048 // 128) * 4
    assert mixture(model).router_bytes == 2 * 256 * 7168 + 4 * 256
    assert model.head_bytes == 2 * model.head_parameters
    assert model.layers[0].attention.kv_bytes_per_token == 2 * (512 + 64)


def test_shared_experts_are_one_network_of_their_joint_width() -> None:
    shared = mixture(load_model("deepseek-v2-lite")).shared
    assert shared is not None
    assert (shared.intermediate_size, shared.parameters) == (2816, 3 * 2048 * 2816)


def test_the_study_has_two_matrix_experts_in_every_second_layer() -> None:
    model = load_model("lm-52b")
    assert [layer.index for layer in model.moe_layers] == list(range(1, 24, 2))
    expert = mixture(model).expert
    assert expert.bytes == 2 * (2 * 1024 * 4096 + 4096 + 1024)
    assert (expert.gated, expert.dtype, mixture(model).top_k) == (False, "fp16", 2)
    assert mixture(model).router_bytes == 4 * 1024 * 512


def test_nllb_has_six_mixtures_a_stack_and_caches_in_the_decoder_only() -> None:
    model = load_model("nllb-moe-54b")
    assert [layer.index for layer in model.moe_layers] == [*range(3, 24, 4), *range(27, 48, 4)]
    encoder, decoder = model.encoder_layers[0], model.decoder_layers[0]
    assert encoder.attention.kv_bytes_per_token == 0
    assert encoder.cross_attention is None
    assert decoder.attention.kv_bytes_per_token == 2 * 2048 * 2
    assert decoder.cross_attention is not None
    assert decoder.cross_attention.parameters == 4 * (2048 * 2048 + 2048)


def test_a_tied_head_reads_the_embedding() -> None:
    tied, own = load_model("lm-52b"), load_model("mixtral-8x7b")
    assert (tied.head_parameters, tied.head_matrix_bytes()) == (0, 51_200 * 1024 * 2)
    assert own.head_matrix_bytes() == own.head_bytes == 32_000 * 4096 * 2


def test_awq_packs_experts_and_attention_but_not_the_router(load) -> None:
    plan = {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["gate"]}
    model = load(card("mixtral-8x7b", quantization_config=plan, torch_dtype="float16"))
    rows = {row["part"]: row for row in describe(model)["parts"]}
    # scales and zero points add (16 + 4) / 128 bits a weight to its 4
    for part in ("experts", "attention"):
        assert rows[part]["bytes"] * 8 == rows[part]["parameters"] * (4 + 20 / 128)
    for part in ("router", "embeddings", "head", "norms"):
        assert rows[part]["bytes"] == 2 * rows[part]["parameters"]
    assert mixture(model).expert.dtype == "int4"


def test_a_quantisation_file_beside_the_configuration_counts(tmp_path: Path) -> None:
    plan = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["*.self_attn.*"]}}
    (tmp_path / "config.json").write_text(json.dumps(card("qwen3-30b-a3b")), encoding="utf-8")
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(plan), encoding="utf-8")
    model = load_model(str(tmp_path))
    assert mixture(model).expert.bytes == 3 * (2048 * 768 * 9 // 16 + 8)
    attention = model.layers[0].attention
    assert attention.bytes == 2 * attention.parameters


def test_dense_models_have_no_mixture(load) -> None:
    config = {key: SMALL[key] for key in SMALL if "expert" not in key}
    model = load({**config, "model_type": "llama", "num_key_value_heads": 2})
    assert model.moe_layers == ()
    assert model.active_parameters == model.parameters - model.embedding_parameters
    assert model.layers[0].attention.kv_bytes_per_token == 2 * 2 * 16 * 2


def test_learned_positions_and_layer_norms_are_counted(load) -> None:
    plain = load(SMALL)
    learned = load({**SMALL, "position_embedding": "learned", "max_position_embeddings": 32})
    assert learned.other_parameters - plain.other_parameters == 32 * 64
    assert load({**SMALL, "layer_norm": True}).layers[0].norm_parameters == 2 * 2 * 64


def test_one_more_choice_makes_one_more_expert_active(load) -> None:
    two, three = load(SMALL), load({**SMALL, "num_experts_per_tok": 3})
    assert two.parameters == three.parameters
    assert three.active_parameters - two.active_parameters == 4 * 3 * 64 * 96


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), (None, 2)])
@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_the_dtype_decides_bytes(load, key: str, dtype: str | None, size: int) -> None:
    model = load({**SMALL, key: dtype})
    assert model.bytes == size * model.parameters
    assert model.activation_bytes == size
