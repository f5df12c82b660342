"""NLLB-MoE: encoder and decoder with biases, top-2 mixtures every n-th layer."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from moesim.model.blocks import HeadShape, Projections, attention, feed_forward, mixture
from moesim.model.decoder import check_choice
from moesim.model.encoder_decoder import EncoderDecoder, Stack
from moesim.model.family import DtypeName, ExpertCount, Extent, LayerCount
from moesim.model.formats import PLAIN
from moesim.model.spec import AttentionSpec, FfnSpec, MoeSpec
from moesim.model.weights import Size


class NllbMoe(EncoderDecoder):
    """NLLB-MoE-54B (transformers: NllbMoeForConditionalGeneration).

    Its sinusoidal positions are computed, so no table is counted.
    """

    kind: ClassVar[str] = "nllb-moe"
    architectures: ClassVar[tuple[str, ...]] = ("NllbMoeForConditionalGeneration",)

    encoder_layers: LayerCount
    decoder_layers: LayerCount
    encoder_attention_heads: Extent
    decoder_attention_heads: Extent
    encoder_ffn_dim: Extent
    decoder_ffn_dim: Extent
    num_experts: ExpertCount
    num_experts_per_tok: ExpertCount = 2
    encoder_sparse_step: int = Field(4, ge=0)
    decoder_sparse_step: int = Field(4, ge=0)
    router_bias: bool = False
    router_dtype: DtypeName = "float32"

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_experts)
        for key in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, key):
                raise ValueError(
                    f"d_model {self.d_model} is not a multiple of {key} {getattr(self, key)}"
                )
        return self

    def depth(self, stack: Stack) -> int:
        """See EncoderDecoder."""
        return self.encoder_layers if stack == "encoder" else self.decoder_layers

    def norm(self) -> Size:
        """A layer norm: scale and shift."""
        return self.weights.table(2 * self.d_model)

    def attention(self, stack: Stack, index: int, *, cross: bool) -> AttentionSpec:
        """See EncoderDecoder."""
        encoder = stack == "encoder"
        heads = self.encoder_attention_heads if encoder else self.decoder_attention_heads
        return attention(
            self.weights,
            f"model.{stack}.layers.{index}.{'cross_attention' if cross else 'self_attn'}",
            self.d_model,
            HeadShape(heads, heads, self.d_model // heads),
            Projections(input_bias=True, output_bias=True, output="out_proj"),
            cached=not encoder,
        )

    def feed_forward(self, stack: Stack, index: int) -> FfnSpec | MoeSpec:
        """See EncoderDecoder; the last of every ``*_sparse_step`` layers is a mixture."""
        encoder = stack == "encoder"
        step = self.encoder_sparse_step if encoder else self.decoder_sparse_step
        width = self.encoder_ffn_dim if encoder else self.decoder_ffn_dim
        sparse = step > 0 and (index + 1) % step == 0
        module = f"model.{stack}.layers.{index}.ffn" + (".experts.expert_0" if sparse else "")
        network = feed_forward(
            self.weights, module, self.d_model, width, bias=True, names=("fc1", "fc2")
        )
        if not sparse:
            return network
        return mixture(
            self.weights,
            self.num_experts,
            self.num_experts_per_tok,
            network,
            bias=self.router_bias,
            router_format=PLAIN[self.router_dtype],
        )
