"""Models of two stacks, whose decoder also attends to the encoder's output."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from moesim.model.family import Extent, Family
from moesim.model.quantization import EMBEDDING, HEAD
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec
from moesim.model.weights import NOTHING, Size

Stack = Literal["encoder", "decoder"]


class EncoderDecoder(Family):
    """What its families have in common; the embedding serves both stacks."""

    d_model: Extent
    vocab_size: Extent
    tie_word_embeddings: bool = True

    @abstractmethod
    def depth(self, stack: Stack) -> int:
        """Layers of ``stack``."""

    @abstractmethod
    def attention(self, stack: Stack, index: int, *, cross: bool) -> AttentionSpec:
        """Self or cross attention of layer ``index`` of ``stack``."""

    @abstractmethod
    def feed_forward(self, stack: Stack, index: int) -> FfnSpec | MoeSpec:
        """The dense network or the mixture of layer ``index`` of ``stack``."""

    @abstractmethod
    def norm(self) -> Size:
        """One norm over the hidden size."""

    def layer(self, stack: Stack, index: int, first: int) -> LayerSpec:
        """Layer ``index`` of ``stack``, whose first layer is number ``first`` of the model."""
        network, norms = self.feed_forward(stack, index), self.norm() + self.norm()
        crosses = stack == "decoder"
        if crosses:
            norms += self.norm()
        return LayerSpec(
            index=first + index,
            stack=stack,
            attention=self.attention(stack, index, cross=False),
            cross_attention=self.attention(stack, index, cross=True) if crosses else None,
            dense=network if isinstance(network, FfnSpec) else None,
            moe=network if isinstance(network, MoeSpec) else None,
            norm_parameters=norms.parameters,
            norm_bytes=norms.bytes,
        )

    def layers(self) -> tuple[LayerSpec, ...]:
        """The encoder's layers, then the decoder's."""
        first = self.depth("encoder")
        encoder = [self.layer("encoder", index, 0) for index in range(first)]
        decoder = [self.layer("decoder", index, first) for index in range(self.depth("decoder"))]
        return (*encoder, *decoder)

    def build(self, name: str) -> ModelSpec:
        """See Family; each stack ends with a norm."""
        table = self.weights.linear(EMBEDDING, self.vocab_size, self.d_model)
        head = NOTHING
        if not self.tie_word_embeddings:
            head = self.weights.linear(HEAD, self.vocab_size, self.d_model)
        final_norms = self.norm() + self.norm()
        return ModelSpec(
            name=name,
            family=self.kind,
            layers=self.layers(),
            hidden_size=self.d_model,
            vocab_size=self.vocab_size,
            embedding_parameters=table.parameters,
            embedding_bytes=table.bytes,
            head_parameters=head.parameters,
            head_bytes=head.bytes,
            other_parameters=final_norms.parameters,
            other_bytes=final_norms.bytes,
            activation_bytes=self.weights.plain.element_bytes,
            longest_context=self.max_position_embeddings,
        )
