"""A decoder described key by key, for models without a family of their own."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from moesim.model.blocks import GATED_NAMES, Projections, attention, feed_forward, mixture
from moesim.model.decoder import SlidingDecoder, check_choice
from moesim.model.family import DtypeName, ExpertCount, Extent
from moesim.model.formats import PLAIN
from moesim.model.spec import AttentionSpec, FfnSpec, MoeSpec
from moesim.model.weights import Size


class MoeDecoder(SlidingDecoder):
    """The last of every ``moe_layer_interval`` layers is a mixture, the others are dense.

    The defaults are today's usual choice: gated networks without biases, RMS norms, rotary
    positions. With ``gated`` false an expert has two matrices; ``bias`` gives attention and
    networks biases, ``layer_norm`` gives norms a shift; ``learned`` positions need
    ``max_position_embeddings``.
    """

    kind: ClassVar[str] = "moe_decoder"

    num_experts: ExpertCount
    num_experts_per_tok: ExpertCount
    moe_layer_interval: Extent = 1
    moe_intermediate_size: Extent | None = None
    shared_expert_intermediate_size: Extent | None = None
    gated: bool = True
    bias: bool = False
    layer_norm: bool = False
    position_embedding: Literal["rotary", "sinusoidal", "learned"] = "rotary"
    router_dtype: DtypeName | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_experts)
        if self.position_embedding == "learned" and self.max_position_embeddings is None:
            raise ValueError("learned positions need max_position_embeddings")
        return self

    def norm(self) -> Size:
        """See Decoder."""
        return self.weights.table(self.hidden_size * (2 if self.layer_norm else 1))

    def positions(self) -> Size:
        """See Decoder."""
        learned = self.position_embedding == "learned"
        rows = (self.max_position_embeddings or 0) if learned else 0
        return self.weights.table(rows * self.hidden_size)

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder."""
        return attention(
            self.weights,
            f"model.layers.{index}.self_attn",
            self.hidden_size,
            self.head_shape,
            Projections(self.bias, self.bias),
            window=self.window(index),
        )

    def _network(self, module: str, width: int) -> FfnSpec:
        names = GATED_NAMES if self.gated else ("fc1", "fc2")
        return feed_forward(
            self.weights, module, self.hidden_size, width, bias=self.bias, names=names
        )

    def feed_forward(self, index: int) -> FfnSpec | MoeSpec:
        """See Decoder."""
        module = f"model.layers.{index}.mlp"
        if (index + 1) % self.moe_layer_interval:
            return self._network(module, self.intermediate_size)
        width = self.moe_intermediate_size or self.intermediate_size
        joint = self.shared_expert_intermediate_size
        return mixture(
            self.weights,
            self.num_experts,
            self.num_experts_per_tok,
            self._network(f"{module}.experts.0", width),
            shared=self._network(f"{module}.shared_expert", joint) if joint else None,
            router_format=PLAIN[self.router_dtype] if self.router_dtype else None,
        )
