"""The keys of a config.json by meaning: every name that publishers give them, in one table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 2**40
MOST_LAYERS = 4096
MOST_EXPERTS = 65_534
"""Ids are 16-bit in traces, and 65535 stands for no expert."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "d_model", "n_embd", "dim", "model_dim", "emb_dim", "embed_dim"),
    "layers": ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "num_decoder_layers"),
    "heads": ("num_attention_heads", "n_heads", "n_head", "num_heads", "attention_heads"),
    "kv_heads": (
        "num_key_value_heads", "num_kv_heads", "n_kv_heads", "kv_n_heads", "multi_query_group_num",
        "num_attention_groups", "num_query_groups",
    ),
    "head_size": ("head_dim", "kv_channels", "attention_head_dim", "head_size", "d_head"),
    "value_head_size": ("v_head_dim", "attention_v_dim"),
    "vocabulary": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "width": (
        "dense_intermediate_size", "intermediate_size_mlp", "prefix_dense_intermediate_size",
        "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "d_ff",
        "feed_forward_size", "hidden_dim", "mlp_hidden_size"),
    "experts": (
        "num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts",
        "num_routed_experts", "n_experts", "moe_num_primary_experts", "num_moe_experts",
        "expert_num", "num_total_experts",
    ),
    "top_k": (
        "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk",
        "moe_top_k", "moe_k", "top_k_experts", "num_selected_experts", "num_activated_experts",
        "moe_num_active_primary_experts", "n_activated_experts", "moe_router_topk",
        "num_experts_to_select", "experts_top_k", "router_top_k", "topk",
        "moe_router_top_k", "num_experts_per_topk", "router_topk"),
    "expert_width": (
        "moe_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size",
        "expert_intermediate_size", "moe_ffn_dim", "moe_inter_dim", "intermediate_size_moe",
        "expert_ffn_dim", "expert_hidden_size", "ffn_dim_experts", "intermediate_size",
        "ffn_hidden_size", "ffn_dim", "d_ff", "expert_hidden_dim", "hidden_dim"),
    "expert_input": ("moe_latent_size", "routed_expert_hidden_size"),
    "shared": (
        "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert",
        "num_experts_shared",
    ),
    "shared_width": (
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "shared_intermediate_size", "share_expert_dim", "share_expert_dims",
        "moe_share_expert_dim", "shared_expert_ffn_hidden_size", "shared_ffn_dim",
    ),
    "dense_first": (
        "first_k_dense_replace", "num_dense_layers", "n_dense_layers", "num_first_dense_layers",
        "moe_layer_start_index", "first_dense_layers", "moe_start_layer", "dense_layers",
        "num_dense_layers_first", "n_first_dense_layers"),
    "moe_every": (
        "moe_layer_freq", "decoder_sparse_step", "interleave_moe_layer_step",
        "moe_layer_interval", "expert_layer_period", "moe_every_n_layers", "moe_layer_period",
        "expert_interval", "moe_layer_frequency", "route_every_n", "moe_layer_layout",
        "moe_frequency"),
    "moe_offset": ("expert_layer_offset",),
    "moe_end": ("moe_layer_end_index",),
    "moe_layers": ("moe_layers", "moe_layers_enum", "moe_layer_ids", "sparse_layers"),
    "dense_layers": ("mlp_only_layers", "dense_layer_ids"),
    "network_types": ("mlp_layer_types", "ffn_layer_types"),
    "block_types": ("layers_block_type", "hybrid_override_pattern", "layer_block_types"),
    "attention_types": ("layer_types", "attention_types", "layers_attention_types"),
    "window": ("sliding_window", "sliding_window_size", "window_size", "local_attention_window"),
    "chunk": ("attention_chunk_size",),
    "mtp": (
        "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "n_mtp_layers",
        "num_mtp_layers", "mtp_num_layers", "num_nextn_layers", "mtp_layers", "num_mtp_layer",
    ),
    "context": (
        "max_position_embeddings", "max_seq_len", "model_max_length", "max_sequence_length",
        "seq_length", "n_positions", "max_model_len",
    ),
    "activation": ("hidden_act", "hidden_activation", "mlp_hidden_act", "activation_func"),
    "q_rank": ("q_lora_rank", "attention_q_lora_dim"),
    "kv_rank": ("kv_lora_rank", "attention_kv_lora_dim"),
    "nope_size": ("qk_nope_head_dim", "attention_qk_dim"),
    "rope_size": ("qk_rope_head_dim", "attention_qk_rope_dim"),
    "gate": (
        "attn_output_gate", "attention_output_gate", "use_output_gate", "mla_use_output_gate",
        "use_attn_output_gate",
    ),
    "head_gate": ("use_head_wise_attn_gate", "head_wise_attn_gate", "attention_head_gate"),
    "index_heads": ("index_n_heads", "sparse_num_index_heads", "indexer_num_heads"),
    "index_size": ("index_head_dim", "sparse_index_dim", "indexer_head_dim"),
    "index_top": ("index_topk", "indexer_topk", "index_top_k"),
    "state_heads": ("mamba_num_heads", "mamba_n_heads", "ssm_num_heads", "mamba_heads"),
    "state_head_size": ("mamba_head_dim", "mamba_d_head", "ssm_head_dim"),
    "state_size": ("ssm_state_size", "mamba_d_state", "state_size", "mamba_state_dim"),
    "state_groups": ("n_groups", "mamba_n_groups", "mamba_num_groups", "ssm_num_groups"),
    "state_kernel": ("conv_kernel", "mamba_d_conv", "conv_kernel_size", "linear_conv_kernel_dim",
                     "short_conv_kernel_size", "conv_L_cache"),
    "state_expand": ("expand", "mamba_expand"),
    "state_chunk": ("mamba_chunk_size", "chunk_size"),
    "state_dtype": ("mamba_ssm_cache_dtype", "mamba_ssm_dtype", "ssm_dtype"),
    "attention_bias": ("attention_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias"),
    "bias": ("mlp_bias", "use_bias", "add_bias_linear"),
    "qk_norm": ("use_qk_norm", "qk_norm", "qk_layernorm", "use_qk_layernorm"),
}  # fmt: skip
"""For each meaning the keys that have it, the most special first. Of a config.json with several the
first that is there and not null counts."""

WRAPPERS = (
    "text_config", "llm_config", "language_config", "thinker_config", "lm_config", "language_model",
    "text_model_config", "llm", "decoder_config",
)  # fmt: skip
"""Objects that hold the language model of a multimodal one."""
FLAT = (
    "attn_config", "ffn_config", "moe_config", "attention_config", "mla_config", "mlp_config",
    "sparse_attention_config", "moe",
)  # fmt: skip
"""Objects whose keys are read as if they stood one level higher (DBRX)."""
OUTER = ("torch_dtype", "dtype", "tie_word_embeddings", "quantization_config", "expert_dtype")
"""What a wrapper says where the inner object does not."""
HINTS = re.compile(r"expert|moe|router", re.IGNORECASE)


class ConfigError(Exception):
    """Something in a configuration is wrong: ``key`` (empty for the whole) and ``what``."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key, self.what = key, what


@dataclass
class Keys:
    """A flat configuration that is read by meaning; ``read`` has the keys that were asked for."""

    config: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    def name(self, meaning: str) -> str | None:
        """The key that says ``meaning``, None where none does."""
        names = NAMES.get(meaning, (meaning,))
        return next((name for name in names if self.config.get(name) is not None), None)

    def value(self, meaning: str) -> Any:
        """The value as it stands; None where no key says it."""
        name = self.name(meaning)
        return None if name is None else self.config[name]

    def number(self, meaning: str, default: int = 0, most: int = LARGEST) -> int:
        """A number of at least 0; ``default`` where no key says it. ConfigError for another."""
        name = self.name(meaning)
        return default if name is None else self.checked(name, self.config[name], most)

    def checked(self, name: str, value: Any, most: int = LARGEST) -> int:
        """``value`` of the key ``name``, where it is a whole number from 0 to ``most``."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(name, f"{str(value)[:60]!r}: should be a whole number")
        if not 0 <= value <= most:
            raise ConfigError(name, f"{value}: should be from 0 to {most}")
        return value

    def needed(self, meaning: str, most: int = LARGEST) -> int:
        """A number above 0. ConfigError where no key says it, or it is 0."""
        name = self.name(meaning)
        if name is None:
            names = ", ".join(NAMES.get(meaning, (meaning,))[:4])
            raise ConfigError("", f"no key says the model's {meaning} ({names}); add it")
        if (number := self.number(meaning, most=most)) == 0:
            raise ConfigError(name, "0: should be above 0")
        return number

    def flag(self, meaning: str, *, default: bool = False) -> bool:
        """Whether a key says so."""
        value = self.value(meaning)
        return default if value is None else bool(value)

    def of_layer(self, meaning: str, index: int, default: int = 0, most: int = LARGEST) -> int:
        """A number that may be a list with one entry a layer (of shorter ones the first counts)."""
        value = self.value(meaning)
        if not isinstance(value, list):
            return self.number(meaning, default, most)
        name = self.name(meaning) or meaning
        if not value:
            return default
        place = index if index < len(value) else 0
        return self.checked(f"{name}[{place}]", value[place], most)

    def list_of(self, meaning: str, layers: int) -> list[Any] | None:
        """A list with at least an entry a layer, or a text with a letter a layer; None without."""
        value = self.value(meaning)
        if not isinstance(value, list | str) or not value:
            return None
        found = list(value)
        if len(found) < layers:
            name = self.name(meaning) or meaning
            raise ConfigError(name, f"has {len(found)} entries for {layers} layers")
        return found

    def layers_in(self, meaning: str) -> set[int] | None:
        """Layer numbers of a list, or of a text as in '3,4,5'; None where there is none."""
        value = self.value(meaning)
        if isinstance(value, str):
            value = [part for part in re.split(r"[,\s]+", value) if part]
            value = [int(part) if part.isdigit() else part for part in value]
        if not isinstance(value, list):
            return None
        return {self.checked(self.name(meaning) or meaning, entry) for entry in value}

    def note(self, text: str) -> None:
        """Say ``text`` once in the model's notes."""
        if text not in self.notes:
            self.notes.append(text)


def language_model(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the language model inside ``config``, flat, with what wrappers say."""
    for wrapper in WRAPPERS:
        inner = config.get(wrapper)
        if isinstance(inner, Mapping) and inner:
            outer = {key: config[key] for key in OUTER if config.get(key) is not None}
            return language_model({**outer, **_said(inner)})
    flat = dict(config)
    for name in FLAT:
        if isinstance(inner := config.get(name), Mapping):
            flat.update({key: value for key, value in inner.items() if flat.get(key) is None})
    return flat


def _said(inner: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inner.items() if value is not None or key not in OUTER}


def expert_hints(config: Mapping[str, Any]) -> list[str]:
    """Keys that speak of experts and have a number above 1."""
    known = {name for names in NAMES.values() for name in names}
    return [
        key
        for key, value in config.items()
        if HINTS.search(key) and key not in known
        and isinstance(value, int) and not isinstance(value, bool) and value > 1
    ]  # fmt: skip
