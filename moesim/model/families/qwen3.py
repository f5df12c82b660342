"""Qwen3: dense, with norms on queries and keys."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.blocks import Projections, attention
from moesim.model.decoder import QwenDecoder
from moesim.model.family import Extent
from moesim.model.spec import AttentionSpec


class Qwen3(QwenDecoder):
    """Qwen3-0.6B to 32B (transformers: Qwen3ForCausalLM)."""

    kind: ClassVar[str] = "qwen3"
    architectures: ClassVar[tuple[str, ...]] = ("Qwen3ForCausalLM",)

    head_dim: Extent | None = 128
    attention_bias: bool = False

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(self.attention_bias, self.attention_bias),
            extra=self.weights.table(2 * self.head_shape.size),
            window=self.window(index),
        )
