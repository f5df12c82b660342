"""DeepSeek-V2: multi-head latent attention, shared experts, first layers dense."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.latent import LatentDecoder


class DeepseekV2(LatentDecoder):
    """DeepSeek-V2, V2-Lite and Coder-V2 (transformers: DeepseekV2ForCausalLM)."""

    kind: ClassVar[str] = "deepseek_v2"
    architectures: ClassVar[tuple[str, ...]] = ("DeepseekV2ForCausalLM",)
