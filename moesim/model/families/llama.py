"""Llama and its kin: dense decoders without sliding windows."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.blocks import Projections, attention, feed_forward
from moesim.model.decoder import Decoder
from moesim.model.spec import AttentionSpec, FfnSpec


class Llama(Decoder):
    """Llama 1 to 3 (transformers: LlamaForCausalLM)."""

    kind: ClassVar[str] = "llama"
    architectures: ClassVar[tuple[str, ...]] = ("LlamaForCausalLM",)

    attention_bias: bool = False
    mlp_bias: bool = False

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(self.attention_bias, self.attention_bias),
        )

    def feed_forward(self, index: int) -> FfnSpec:
        """See Decoder."""
        module, bias = f"model.layers.{index}.mlp", self.mlp_bias
        return feed_forward(
            self.weights, module, self.hidden_size, self.intermediate_size, bias=bias
        )
