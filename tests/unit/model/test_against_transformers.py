"""Parameters of every part against transformers' own modules, built without memory."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from moesim.model import ModelSpec, describe, load_model, model_names
from moesim.model.described import describe_config
from moesim.model.family import family_for
from moesim.model.loader import CARDS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

_DECODER = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LATENT = {
    **_DECODER,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_group": 1,
    "topk_group": 1,
}
_T5 = {
    "d_model": 64,
    "d_ff": 96,
    "d_kv": 24,
    "num_heads": 4,
    "num_layers": 6,
    "num_decoder_layers": 4,
    "vocab_size": 100,
}
_SWITCH = {**_T5, "num_experts": 4, "num_sparse_encoder_layers": 3, "num_sparse_decoder_layers": 2}
_NLLB = {
    "d_model": 64,
    "encoder_layers": 6,
    "decoder_layers": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 80,
    "encoder_sparse_step": 3,
    "decoder_sparse_step": 2,
    "num_experts": 4,
    "vocab_size": 100,
}
_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
_LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 2}
_QWEN_MOE = {**_DECODER, **_EXPERTS, "moe_intermediate_size": 40, "decoder_sparse_step": 2}

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_oss": ("gpt_oss", {**_DECODER, **_LOCAL, "head_dim": 24}),
    "gpt_oss without biases": ("gpt_oss", {**_DECODER, **_LOCAL, "attention_bias": False}),
    "mixtral": ("mixtral", {**_DECODER, **_LOCAL, "sliding_window": 7}),
    "mixtral tied": ("mixtral", {**_DECODER, **_LOCAL, "tie_word_embeddings": True}),
    "qwen2_moe": ("qwen2_moe", {**_QWEN_MOE, "shared_expert_intermediate_size": 48}),
    "qwen2_moe dense first": (
        "qwen2_moe",
        {
            **_QWEN_MOE,
            "shared_expert_intermediate_size": 48,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [0],
            "qkv_bias": False,
        },
    ),
    "qwen3_moe": ("qwen3_moe", {**_QWEN_MOE, "head_dim": 24, "attention_bias": True}),
    "olmoe": ("olmoe", {**_DECODER, **_EXPERTS}),
    "deepseek_v2": ("deepseek_v2", _LATENT),
    "deepseek_v2 without query latent": ("deepseek_v2", {**_LATENT, "q_lora_rank": None}),
    "deepseek_v3": ("deepseek_v3", {**_LATENT, "first_k_dense_replace": 2}),
    "deepseek_v3 with biases": ("deepseek_v3", {**_LATENT, "attention_bias": True}),
    "llama": ("llama", {**_DECODER, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {**_DECODER, "sliding_window": 9}),
    "qwen2": (
        "qwen2",
        {**_DECODER, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "qwen3": ("qwen3", _DECODER),
    "gpt2": (
        "gpt2",
        {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 100, "n_positions": 32},
    ),
    "t5": ("t5", _T5),
    "t5 gated": ("t5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "switch_transformers": ("switch_transformers", _SWITCH),
    "nllb-moe": ("nllb-moe", _NLLB),
    "nllb-moe with router bias": ("nllb-moe", {**_NLLB, "router_bias": True}),
}

# the first pattern that is found in a parameter's name decides its part
PART_PATTERNS = {
    "shared": r"shared_expert",
    "experts": r"\.experts\.",
    "router": r"\.router\.|\.gate\.",
    "attention": r"\.(self_attn|attn|SelfAttention|EncDecAttention|cross_attention)\.",
    "other": r"final_layer_norm|model\.norm\.|coder\.layer_norm|ln_f|wpe",
    "norms": r"norm|\.ln_\d",
    "head": r"lm_head",
    "embeddings": r"embed_tokens|wte|^shared\.|model\.shared\.",
    "dense": r"",
}
TYPES = {
    name: json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))["model_type"]
    for name in model_names()
}
DESCRIBED = [name for name, kind in TYPES.items() if family_for(kind, []) is None]
"""Cards that are read by what their keys mean."""
TRANSFORMERS_CARDS = [
    name for name in model_names() if name not in ("lm-52b", "kimi-k2", *DESCRIBED)
]


def configuration(model_type: str, keys: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoConfig.for_model(model_type, **keys)


def parts(config: Any) -> dict[str, int]:
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else None
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = (kind or transformers.AutoModelForCausalLM).from_config(config)
    counts = dict.fromkeys(PART_PATTERNS, 0)
    for name, parameter in model.named_parameters():
        counts[next(part for part in counts if re.search(PART_PATTERNS[part], name))] += (
            parameter.numel()
        )
    corrections = [
        buffer for name, buffer in model.named_buffers() if name.endswith("correction_bias")
    ]
    counts["router"] += sum(buffer.numel() for buffer in corrections)
    return counts


def our_parts(model: ModelSpec) -> dict[str, int]:
    return {row["part"]: row["parameters"] for row in describe(model)["parts"]}


@pytest.mark.parametrize("case", SMALL)
def test_a_small_model_has_the_parameters_of_transformers(case: str, tmp_path: Path) -> None:
    config = configuration(*SMALL[case])
    path = tmp_path / "config.json"
    path.write_text(config.to_json_string(use_diff=False), encoding="utf-8")
    assert our_parts(load_model(str(path))) == parts(config)


@pytest.mark.parametrize("case", ["gpt_oss", "qwen2", "qwen3", "qwen2_moe"])
def test_sliding_windows_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    model_type, keys = SMALL[case]
    types = configuration(model_type, keys).layer_types
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": model_type, **keys}), encoding="utf-8")
    found = [layer.attention.window is not None for layer in load_model(str(path)).layers]
    assert found == [kind == "sliding_attention" for kind in types]


@pytest.mark.parametrize("name", TRANSFORMERS_CARDS)
def test_a_card_has_the_parameters_of_transformers(name: str) -> None:
    keys = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))
    dropped = {"source", "model_type", "quantization_config", "architectures"}
    config = configuration(
        keys["model_type"], {key: keys[key] for key in keys if key not in dropped}
    )
    assert our_parts(load_model(name)) == parts(config)


UNSEEN = (
    "afmoe", "cohere2_moe", "deepseek_v32", "ernie4_5_moe", "exaone_moe", "flex_olmo",
    "glm4_moe_lite", "glm_moe_dsa", "gpt_oss", "granitemoe", "granitemoehybrid",
    "granitemoeshared", "jamba", "kimi_linear", "llama4_text", "minimax", "minimax_m2", "mixtral",
    "nemotron_h", "olmoe", "phimoe", "qwen2_moe", "qwen3_5_moe_text", "qwen3_moe", "qwen3_next",
    "sarvam_moe", "solar_open", "deepseek_v3", "minimax_m3_vl_text",
)  # fmt: skip
"""Families of transformers whose default configurations are read by what their keys mean."""


NEARLY = (
    "aria_text", "axk1", "axk2", "bailing_hybrid", "beam", "dots3_note_text", "flint",
    "granitemoe_swa", "hy_v3", "hy_v4", "inkling2_text", "inkling_text", "kolibri1", "laguna",
    "lara_mini", "mellum", "mimo_v2_flash", "sarvam_mla", "zaya",
)  # fmt: skip
"""Families for which nothing was made here, or little: a small part of each is not known."""


def total(config: Any) -> int:
    return sum(parts(config).values())


@pytest.mark.parametrize("kind", UNSEEN)
def test_a_family_read_by_its_keys_has_the_parameters_of_transformers(kind: str) -> None:
    if kind not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {kind}")
    config = configuration(kind, {})
    keys = json.loads(config.to_json_string(use_diff=False))
    assert describe_config(keys, kind).parameters == total(config)


@pytest.mark.parametrize("kind", NEARLY)
def test_a_family_that_nobody_thought_of_has_nearly_the_parameters(kind: str) -> None:
    if kind not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {kind}")
    config = configuration(kind, {})
    keys = json.loads(config.to_json_string(use_diff=False))
    assert describe_config(keys, kind).parameters == pytest.approx(total(config), rel=0.01)


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_described_card_has_the_total_of_transformers(name: str) -> None:
    if TYPES[name] not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {TYPES[name]}")
    keys = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))
    dropped = {"source", "model_type", "quantization_config", "architectures", "expert_dtype"}
    config = configuration(TYPES[name], {k: keys[k] for k in keys if k not in dropped})
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        pytest.skip(f"this transformers has {TYPES[name]} with its other senses alone")
    assert load_model(name).parameters == pytest.approx(total(config), rel=1e-4)
