"""Mistral: a dense decoder, every layer with the same sliding window, if any."""

from __future__ import annotations

from typing import ClassVar

from moesim.model.decoder import SlidingDecoder


class Mistral(SlidingDecoder):
    """Mistral-7B (transformers: MistralForCausalLM)."""

    kind: ClassVar[str] = "mistral"
    architectures: ClassVar[tuple[str, ...]] = ("MistralForCausalLM",)
