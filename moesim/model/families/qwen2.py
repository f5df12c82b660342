"""Qwen2 and Qwen2.5: dense, with biases on queries, keys and values."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.blocks import Projections, attention
from moesim.model.decoder import QwenDecoder
from moesim.model.spec import AttentionSpec


class Qwen2(QwenDecoder):
    """Qwen2 and Qwen2.5 (transformers: Qwen2ForCausalLM)."""

    kind: ClassVar[str] = "qwen2"
    architectures: ClassVar[tuple[str, ...]] = ("Qwen2ForCausalLM",)

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(input_bias=True),
            window=self.window(index),
        )
