"""Multi-head latent attention and fine-grained experts, as DeepSeek-V2 and V3 have them."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from moesim.model.blocks import feed_forward, mixture
from moesim.model.decoder import Decoder, check_choice
from moesim.model.family import ExpertCount, Extent
from moesim.model.spec import LATENT, AttentionSpec, FfnSpec, MoeSpec
from moesim.model.weights import NOTHING, Size


class LatentDecoder(Decoder):
    """Keys and values come from a latent of ``kv_lora_rank`` and one rotary key: the whole cache.

    Queries come from a latent of ``q_lora_rank``, or directly where it is null. The first
    ``first_k_dense_replace`` layers are dense; ``n_shared_experts`` act as one network of their
    joint width.
    """

    kv_lora_rank: Extent
    qk_nope_head_dim: Extent
    qk_rope_head_dim: Extent
    v_head_dim: Extent
    moe_intermediate_size: Extent
    n_routed_experts: ExpertCount
    num_experts_per_tok: ExpertCount
    q_lora_rank: Extent | None = None
    n_shared_experts: int | None = Field(None, ge=0, le=65535)
    first_k_dense_replace: int = Field(0, ge=0)
    moe_layer_freq: Extent = 1
    attention_bias: bool = False

    @model_validator(mode="after")
    def _choice(self) -> Self:
        check_choice(self.num_experts_per_tok, self.n_routed_experts)
        return self

    def correction(self) -> Size:
        """What the router has beside its matrix."""
        return NOTHING

    def _queries(self, module: str) -> Size:
        width = self.num_attention_heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        rank = self.q_lora_rank
        if rank is None:
            return self.weights.linear(f"{module}.q_proj", width, self.hidden_size)
        down = self.weights.linear(
            f"{module}.q_a_proj", rank, self.hidden_size, bias=self.attention_bias
        )
        up = self.weights.linear(f"{module}.q_b_proj", width, rank)
        return down + self.weights.table(rank) + up

    def _keys_and_values(self, module: str) -> Size:
        latent, heads = self.kv_lora_rank, self.num_attention_heads
        down = self.weights.linear(
            f"{module}.kv_a_proj_with_mqa",
            latent + self.qk_rope_head_dim,
            self.hidden_size,
            bias=self.attention_bias,
        )
        width = heads * (self.qk_nope_head_dim + self.v_head_dim)
        up = self.weights.linear(f"{module}.kv_b_proj", width, latent)
        return down + self.weights.table(latent) + up

    def attention(self, index: int) -> AttentionSpec:
        """See Decoder."""
        module, heads = f"model.layers.{index}.self_attn", self.num_attention_heads
        output = self.weights.linear(
            f"{module}.o_proj", self.hidden_size, heads * self.v_head_dim, bias=self.attention_bias
        )
        size = self._queries(module) + self._keys_and_values(module) + output
        cached = self.kv_lora_rank + self.qk_rope_head_dim
        return AttentionSpec(
            heads=heads,
            kv_heads=heads,
            query_key_head_size=self.qk_nope_head_dim + self.qk_rope_head_dim,
            value_head_size=self.v_head_dim,
            window=None,
            parameters=size.parameters,
            bytes=size.bytes,
            kv_bytes_per_token=cached * self.weights.plain.element_bytes,
            kind=LATENT,
        )

    def feed_forward(self, index: int) -> FfnSpec | MoeSpec:
        """See Decoder."""
        if index < self.first_k_dense_replace or index % self.moe_layer_freq:
            return super().feed_forward(index)
        weights, module, width = (
            self.weights,
            f"model.layers.{index}.mlp",
            self.moe_intermediate_size,
        )
        expert = feed_forward(weights, f"{module}.experts.0", self.hidden_size, width)
        shared = None
        if self.n_shared_experts:
            joint = self.n_shared_experts * width
            shared = feed_forward(weights, f"{module}.shared_experts", self.hidden_size, joint)
        return mixture(
            weights,
            self.n_routed_experts,
            self.num_experts_per_tok,
            expert,
            shared=shared,
            correction=self.correction(),
        )
