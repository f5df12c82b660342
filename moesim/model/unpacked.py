"""Experts whose packed weights software unpacks before it multiplies."""

from __future__ import annotations

from dataclasses import replace

from moesim.model.spec import LayerSpec, ModelSpec

WIDE = ("bf16", "fp16", "fp32")
"""Formats that products take as they are."""


def with_unpacked_experts(model: ModelSpec, bytes_per_weight: float) -> ModelSpec:
    """``model`` whose experts, where they are in a format of less than 16 bits, have so many bytes
    written and read for each weight before each product.
    """
    if not bytes_per_weight:
        return model
    layers = tuple(_unpacked(layer, bytes_per_weight) for layer in model.layers)
    return replace(model, layers=layers)


def _unpacked(layer: LayerSpec, bytes_per_weight: float) -> LayerSpec:
    if layer.moe is None or (expert := layer.moe.expert).dtype in WIDE:
        return layer
    weights = expert.hidden_size * expert.intermediate_size * (3 if expert.gated else 2)
    moved = replace(expert, unpacking_bytes=int(weights * bytes_per_weight + 0.5))
    return replace(layer, moe=replace(layer.moe, expert=moved))
