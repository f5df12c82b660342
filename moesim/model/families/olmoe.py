"""OLMoE: norms over the whole query and key vectors, many small experts."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from moesim.model.blocks import Projections, attention, feed_forward, mixture
from moesim.model.decoder import Decoder, check_choice
from moesim.model.family import ExpertCount
from moesim.model.spec import AttentionSpec, MoeSpec


class Olmoe(Decoder):
    """OLMoE-1B-7B (transformers: OlmoeForCausalLM)."""

    kind: ClassVar[str] = "olmoe"
    architectures: ClassVar[tuple[str, ...]] = ("OlmoeForCausalLM",)

    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts", "num_local_experts")
    )
    num_experts_per_tok: ExpertCount
    attention_bias: bool = False

    @model_validator(mode="after")
    def _choice(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_experts)
        return self

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder; the norms span all heads."""
        shape = self.head_shape
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            shape,
            Projections(self.attention_bias, self.attention_bias),
            extra=self.weights.table((shape.heads + shape.kv_heads) * shape.size),
        )

    def feed_forward(self, index: int) -> MoeSpec:
        """See Decoder."""
        module = f"model.layers.{index}.mlp.experts.0"
        expert = feed_forward(self.weights, module, self.hidden_size, self.intermediate_size)
        return mixture(self.weights, self.num_experts, self.num_experts_per_tok, expert)
