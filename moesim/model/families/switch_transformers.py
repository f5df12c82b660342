"""Switch Transformers: T5 with top-1 mixtures in every n-th layer of both stacks."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from moesim.model.blocks import feed_forward, mixture
from moesim.model.encoder_decoder import Stack
from moesim.model.families.t5 import T5
from moesim.model.family import DtypeName, ExpertCount
from moesim.model.formats import PLAIN
from moesim.model.spec import FfnSpec, MoeSpec


class SwitchTransformers(T5):
    """Switch-base and Switch-large (transformers: SwitchTransformersForConditionalGeneration)."""

    kind: ClassVar[str] = "switch_transformers"
    architectures: ClassVar[tuple[str, ...]] = ("SwitchTransformersForConditionalGeneration",)

    num_experts: ExpertCount
    num_sparse_encoder_layers: int = Field(ge=0)
    num_sparse_decoder_layers: int = Field(ge=0)
    router_bias: bool = False
    router_dtype: DtypeName = "float32"

    def is_sparse(self, stack: Stack, index: int) -> bool:
        """Whether layer ``index`` is a mixture: the second of every n, or all."""
        encoder = stack == "encoder"
        sparse = self.num_sparse_encoder_layers if encoder else self.num_sparse_decoder_layers
        step = self.depth(stack) // sparse if sparse else 0
        return step == 1 or (step > 0 and index % step == 1)

    def feed_forward(self, stack: Stack, index: int) -> FfnSpec | MoeSpec:
        """See EncoderDecoder."""
        sparse = self.is_sparse(stack, index)
        module = f"{stack}.block.{index}.mlp" + (".experts.expert_0" if sparse else "")
        network = feed_forward(self.weights, module, self.d_model, self.d_ff, names=("wi", "wo"))
        if not sparse:
            return network
        router_format = PLAIN[self.router_dtype]
        return mixture(
            self.weights,
            self.num_experts,
            1,
            network,
            bias=self.router_bias,
            router_format=router_format,
        )
