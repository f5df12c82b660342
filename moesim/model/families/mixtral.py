"""Mixtral: every layer a mixture of gated experts."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from moesim.model.blocks import feed_forward, mixture
from moesim.model.decoder import SlidingDecoder, check_choice
from moesim.model.family import ExpertCount
from moesim.model.spec import MoeSpec


class Mixtral(SlidingDecoder):
    """Mistral's Mixtral-8x7B and 8x22B (transformers: MixtralForCausalLM)."""

    kind: ClassVar[str] = "mixtral"
    architectures: ClassVar[tuple[str, ...]] = ("MixtralForCausalLM",)

    num_local_experts: ExpertCount
    num_experts_per_tok: ExpertCount

    @model_validator(mode="after")
    def _choice(self) -> Self:
        check_choice(self.num_experts_per_tok, self.num_local_experts)
        return self

    def feed_forward(self, index: int) -> MoeSpec:
        """See Decoder."""
        expert = feed_forward(
            self.weights,
            f"model.layers.{index}.block_sparse_moe.experts.0",
            self.hidden_size,
            self.intermediate_size,
            names=("w1", "w3", "w2"),
        )
        return mixture(self.weights, self.num_local_experts, self.num_experts_per_tok, expert)
