"""DeepSeek-V3: V2 with a score correction a routed expert, without the prediction layer."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from moesim.model.formats import FP32
from moesim.model.latent import LatentDecoder
from moesim.model.spec import ModelSpec, predicting_layer
from moesim.model.weights import Size


class DeepseekV3(LatentDecoder):
    """DeepSeek-V3, R1 and Kimi-K2 (transformers: DeepseekV3ForCausalLM).

    Layers for multi-token prediction are counted apart, as in the published total.
    """

    kind: ClassVar[str] = "deepseek_v3"
    aliases: ClassVar[tuple[str, ...]] = ("kimi_k2",)
    architectures: ClassVar[tuple[str, ...]] = ("DeepseekV3ForCausalLM",)

    num_nextn_predict_layers: int = Field(0, ge=0, le=64)

    def build(self, name: str) -> ModelSpec:
        """See Family; a layer that predicts has a product of its own before."""
        model, count = super().build(name), self.num_nextn_predict_layers
        hidden, last = self.hidden_size, predicting_layer(model.layers)
        size = Size(last.parameters, last.bytes) + self.weights.table(3 * hidden)
        size += self.weights.linear("mtp.eh_proj", hidden, 2 * hidden)
        parameters, stored = count * size.parameters, count * size.bytes
        return replace(model, mtp_layers=count, mtp_parameters=parameters, mtp_bytes=stored)

    def correction(self) -> Size:
        """``e_score_correction_bias``, kept in fp32."""
        return self.weights.table(self.n_routed_experts, FP32)
