"""Decoder-only models: what their families have in common."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from moesim.model.blocks import HeadShape, attention, feed_forward
from moesim.model.family import Extent, Family, LayerCount
from moesim.model.quantization import EMBEDDING, HEAD
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec
from moesim.model.weights import NOTHING, Size


class Decoder(Family):
    """Layers of attention and a feed-forward network, each behind an RMS norm; rotary positions."""

    hidden_size: Extent
    num_hidden_layers: LayerCount
    num_attention_heads: Extent
    intermediate_size: Extent
    vocab_size: Extent
    num_key_value_heads: Extent | None = None
    head_dim: Extent | None = None
    tie_word_embeddings: bool = False

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}; give head_dim where it is not their quotient"
            )
        if self.num_attention_heads % (self.num_key_value_heads or 1):
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        return self

    @property
    def head_shape(self) -> HeadShape:
        """Heads of the attention blocks."""
        heads = self.num_attention_heads
        size = self.head_dim or self.hidden_size // heads
        return HeadShape(heads, self.num_key_value_heads or heads, size)

    def window(self, index: int) -> int | None:
        """Sliding window of layer ``index`` in tokens; None for full attention."""
        return None

    def attention(self, index: int) -> AttentionSpec:
        """The attention block of layer ``index``."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            window=self.window(index),
        )

    def feed_forward(self, index: int) -> FfnSpec | MoeSpec:
        """The dense network or the mixture of layer ``index``."""
        module = f"model.layers.{index}.mlp"
        return feed_forward(self.weights, module, self.hidden_size, self.intermediate_size)

    def norm(self) -> Size:
        """One norm over the hidden size."""
        return self.weights.table(self.hidden_size)

    def positions(self) -> Size:
        """A learned position table; rotary and sinusoidal positions have none."""
        return NOTHING

    def layer(self, index: int) -> LayerSpec:
        """Layer ``index``."""
        network = self.feed_forward(index)
        norms = self.norm() + self.norm()
        return LayerSpec(
            index=index,
            stack="decoder",
            attention=self.attention(index),
            cross_attention=None,
            dense=network if isinstance(network, FfnSpec) else None,
            moe=network if isinstance(network, MoeSpec) else None,
            norm_parameters=norms.parameters,
            norm_bytes=norms.bytes,
        )

    def build(self, name: str) -> ModelSpec:
        """See Family."""
        table = self.weights.linear(EMBEDDING, self.vocab_size, self.hidden_size)
        head = NOTHING
        if not self.tie_word_embeddings:
            head = self.weights.linear(HEAD, self.vocab_size, self.hidden_size)
        other = self.norm() + self.positions()
        return ModelSpec(
            name=name,
            family=self.kind,
            layers=tuple(self.layer(index) for index in range(self.num_hidden_layers)),
            hidden_size=self.hidden_size,
            vocab_size=self.vocab_size,
            embedding_parameters=table.parameters,
            embedding_bytes=table.bytes,
            head_parameters=head.parameters,
            head_bytes=head.bytes,
            other_parameters=other.parameters,
            other_bytes=other.bytes,
            activation_bytes=self.weights.plain.element_bytes,
            longest_context=self.max_position_embeddings,
        )


class SlidingDecoder(Decoder):
    """A decoder in which some layers see a sliding window only.

    ``layer_types`` says which; without it ``slides`` does.
    """

    sliding_window: Extent | None = None
    layer_types: list[str] | None = None

    @model_validator(mode="after")
    def _a_type_a_layer(self) -> Self:
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types has {len(self.layer_types)} entries "
                f"for {self.num_hidden_layers} layers"
            )
        return self

    def slides(self, index: int) -> bool:
        """Whether layer ``index`` has a sliding window where ``layer_types`` does not say."""
        return True

    def window(self, index: int) -> int | None:
        """See Decoder."""
        if self.layer_types is not None:
            sliding = self.layer_types[index] == "sliding_attention"
        else:
            sliding = self.slides(index)
        return self.sliding_window if sliding else None


class QwenDecoder(SlidingDecoder):
    """Windows as Qwen has them: off unless ``use_sliding_window``; layers below
    ``max_window_layers`` see everything.
    """

    sliding_window: int | None = Field(4096, ge=0)
    use_sliding_window: bool = False
    max_window_layers: int = Field(28, ge=0)

    def slides(self, index: int) -> bool:
        """See SlidingDecoder."""
        return index >= self.max_window_layers

    def window(self, index: int) -> int | None:
        """See Decoder."""
        return (super().window(index) or None) if self.use_sliding_window else None


def check_choice(top_k: int, experts: int) -> None:
    """ValueError unless a token can choose ``top_k`` of ``experts``."""
    if top_k > experts:
        raise ValueError(f"a token cannot choose {top_k} of {experts} experts; lower the top-k")
