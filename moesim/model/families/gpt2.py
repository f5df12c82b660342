"""GPT-2: dense, two-matrix networks, layer norms and biases, learned positions."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from moesim.model.blocks import Projections, attention, feed_forward
from moesim.model.decoder import Decoder
from moesim.model.family import Extent, LayerCount
from moesim.model.spec import AttentionSpec, FfnSpec
from moesim.model.weights import Size


class Gpt2(Decoder):
    """GPT-2 (transformers: GPT2LMHeadModel)."""

    kind: ClassVar[str] = "gpt2"
    architectures: ClassVar[tuple[str, ...]] = ("GPT2LMHeadModel",)

    hidden_size: Extent = Field(validation_alias="n_embd")
    num_hidden_layers: LayerCount = Field(validation_alias="n_layer")
    num_attention_heads: Extent = Field(validation_alias="n_head")
    n_positions: Extent
    intermediate_size: Extent | None = Field(None, validation_alias="n_inner")  # type: ignore[assignment]
    tie_word_embeddings: bool = True

    def norm(self) -> Size:
        """A layer norm: scale and shift."""
        return self.weights.table(2 * self.hidden_size)

    def positions(self) -> Size:
        """See Decoder."""
        return self.weights.table(self.n_positions * self.hidden_size)

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder."""
        module = f"transformer.h.{index}.attn"
        return attention(
            self.weights,
            module,
            self.hidden_size,
            self.head_shape,
            Projections(input_bias=True, output_bias=True),
        )

    def feed_forward(self, index: int) -> FfnSpec:
        """See Decoder; four times the hidden size unless ``n_inner`` says otherwise."""
        return feed_forward(
            self.weights,
            f"transformer.h.{index}.mlp",
            self.hidden_size,
            self.intermediate_size or 4 * self.hidden_size,
            bias=True,
            names=("c_fc", "c_proj"),
        )
