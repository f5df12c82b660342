"""T5: an encoder and a decoder with relative positions, all dense."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.blocks import HeadShape, Projections, attention, feed_forward
from moesim.model.encoder_decoder import EncoderDecoder, Stack
from moesim.model.family import Extent, LayerCount
from moesim.model.spec import AttentionSpec, FfnSpec, MoeSpec
from moesim.model.weights import Size


class T5(EncoderDecoder):
    """T5 and Flan-T5 (transformers: T5ForConditionalGeneration)."""

    kind: ClassVar[str] = "t5"
    architectures: ClassVar[tuple[str, ...]] = ("T5ForConditionalGeneration",)

    d_ff: Extent
    d_kv: Extent
    num_heads: Extent
    num_layers: LayerCount
    num_decoder_layers: LayerCount | None = None
    relative_attention_num_buckets: Extent = 32
    feed_forward_proj: str = "relu"

    def depth(self, stack: Stack) -> int:
        """See EncoderDecoder."""
        return self.num_layers if stack == "encoder" else self.num_decoder_layers or self.num_layers

    def norm(self) -> Size:
        """An RMS norm."""
        return self.weights.table(self.d_model)

    def attention(self, stack: Stack, index: int, *, cross: bool) -> AttentionSpec:
        """See EncoderDecoder; the first layer of a stack holds its relative position biases."""
        buckets = 0 if cross or index else self.relative_attention_num_buckets
        return attention(
            self.weights,
            f"{stack}.block.{index}.layer.{int(cross)}",
            self.d_model,
            HeadShape(self.num_heads, self.num_heads, self.d_kv),
            Projections(inputs=("q", "k", "v"), output="o"),
            extra=self.weights.table(buckets * self.num_heads),
            cached=stack == "decoder",
        )

    def feed_forward(self, stack: Stack, index: int) -> FfnSpec | MoeSpec:
        """See EncoderDecoder; gated where ``feed_forward_proj`` begins with ``gated-``."""
        gated = self.feed_forward_proj.startswith("gated-")
        names = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
        module = f"{stack}.block.{index}.DenseReluDense"
        return feed_forward(self.weights, module, self.d_model, self.d_ff, names=names)
