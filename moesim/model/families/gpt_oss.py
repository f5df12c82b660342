"""gpt-oss: biases everywhere, attention sinks, alternating sliding windows, MXFP4 experts."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from moesim.model.blocks import Projections, attention, feed_forward, mixture
from moesim.model.decoder import SlidingDecoder, check_choice
from moesim.model.family import ExpertCount, Extent
from moesim.model.spec import AttentionSpec, MoeSpec


class GptOss(SlidingDecoder):
    """OpenAI's gpt-oss-20b and 120b (transformers: GptOssForCausalLM)."""

    kind: ClassVar[str] = "gpt_oss"
    architectures: ClassVar[tuple[str, ...]] = ("GptOssForCausalLM",)

    num_local_experts: ExpertCount
    num_experts_per_tok: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts_per_tok", "experts_per_token")
    )
    attention_bias: bool = True
    sliding_window: Extent | None = 128

    @model_validator(mode="after")
    def _choice(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_local_experts)
        return self

    def slides(self, index: int) -> bool:
        """Every other layer, the first one included."""
        return index % 2 == 0

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder; a sink is one learned logit a head."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(self.attention_bias, self.attention_bias),
            extra=self.weights.table(self.num_attention_heads),
            window=self.window(index),
        )

    def feed_forward(self, index: int) -> MoeSpec:
        """See Decoder; the experts' biases stay bf16."""
        module = f"model.layers.{index}.mlp.experts.0"
        expert = feed_forward(
            self.weights, module, self.hidden_size, self.intermediate_size, bias=True
        )
        experts, top_k = self.num_local_experts, self.num_experts_per_tok
        return mixture(self.weights, experts, top_k, expert, bias=True)
