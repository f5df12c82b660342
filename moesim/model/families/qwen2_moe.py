"""Qwen2-MoE: a shared expert behind a gate of its own beside the routed ones."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from moesim.model.blocks import Projections, attention, feed_forward, mixture
from moesim.model.decoder import QwenDecoder, check_choice
from moesim.model.family import ExpertCount, Extent
from moesim.model.spec import AttentionSpec, FfnSpec, MoeSpec


class Qwen2Moe(QwenDecoder):
    """Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B (transformers: Qwen2MoeForCausalLM)."""

    kind: ClassVar[str] = "qwen2_moe"
    architectures: ClassVar[tuple[str, ...]] = ("Qwen2MoeForCausalLM",)

    moe_intermediate_size: Extent
    shared_expert_intermediate_size: Extent
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts", "num_local_experts")
    )
    num_experts_per_tok: ExpertCount
    decoder_sparse_step: Extent = 1
    mlp_only_layers: list[int] | None = None
    qkv_bias: bool = True

    @model_validator(mode="after")
    def _choice(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_experts)
        return self

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder; biases on queries, keys and values."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(self.qkv_bias),
            window=self.window(index),
        )

    def feed_forward(self, index: int) -> FfnSpec | MoeSpec:
        """See Decoder; every ``decoder_sparse_step``-th layer is a mixture."""
        if index in (self.mlp_only_layers or ()) or (index + 1) % self.decoder_sparse_step:
            return super().feed_forward(index)
        weights, module = self.weights, f"model.layers.{index}.mlp"
        expert = feed_forward(
            weights, f"{module}.experts.0", self.hidden_size, self.moe_intermediate_size
        )
        shared = feed_forward(
            weights,
            f"{module}.shared_expert",
            self.hidden_size,
            self.shared_expert_intermediate_size,
            extra=weights.table(self.hidden_size),
        )
        return mixture(weights, self.num_experts, self.num_experts_per_tok, expert, shared=shared)
