"""DeepSeek-V3: V2 with a score correction a routed expert, without the prediction layer."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.formats import FP32
from moesim.model.latent import LatentDecoder
from moesim.model.weights import Size


class DeepseekV3(LatentDecoder):
    """DeepSeek-V3, R1 and Kimi-K2 (transformers: DeepseekV3ForCausalLM).

    The layer for multi-token prediction is left out, as it is in the published total.
    """

    kind: ClassVar[str] = "deepseek_v3"
    aliases: ClassVar[tuple[str, ...]] = ("kimi_k2",)
    architectures: ClassVar[tuple[str, ...]] = ("DeepseekV3ForCausalLM",)

    def correction(self) -> Size:
        """``e_score_correction_bias``, kept in fp32."""
        return self.weights.table(self.n_routed_experts, FP32)
