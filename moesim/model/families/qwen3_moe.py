"""Qwen3-MoE: norms on queries and keys, routed experts only."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from moesim.model.blocks import Projections, attention, feed_forward, mixture
from moesim.model.decoder import QwenDecoder, check_choice
from moesim.model.family import ExpertCount, Extent
from moesim.model.spec import AttentionSpec, FfnSpec, MoeSpec


class Qwen3Moe(QwenDecoder):
    """Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder (transformers: Qwen3MoeForCausalLM)."""

    kind: ClassVar[str] = "qwen3_moe"
    architectures: ClassVar[tuple[str, ...]] = ("Qwen3MoeForCausalLM",)

    moe_intermediate_size: Extent
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts", "num_local_experts")
    )
    num_experts_per_tok: ExpertCount
    decoder_sparse_step: Extent = 1
    mlp_only_layers: list[int] | None = None
    attention_bias: bool = False

    @model_validator(mode="after")
    def _choice(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_experts)
        return self

    def slides(self, index: int) -> bool:
        """All layers slide where windows are on."""
        return True

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder; two norms over the head size."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(self.attention_bias, self.attention_bias),
            extra=self.weights.table(2 * self.head_shape.size),
            window=self.window(index),
        )

    def feed_forward(self, index: int) -> FfnSpec | MoeSpec:
        """See Decoder; every ``decoder_sparse_step``-th layer is a mixture."""
        if index in (self.mlp_only_layers or ()) or (index + 1) % self.decoder_sparse_step:
            return super().feed_forward(index)
        module = f"model.layers.{index}.mlp.experts.0"
        expert = feed_forward(self.weights, module, self.hidden_size, self.moe_intermediate_size)
        return mixture(self.weights, self.num_experts, self.num_experts_per_tok, expert)
