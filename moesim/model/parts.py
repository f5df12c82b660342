"""A model by its parts, as plain data."""

from __future__ import annotations

from typing import Any

from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec
from moesim.model.weights import NOTHING, Size

PARTS = (
    "attention",
    "experts",
    "shared",
    "router",
    "dense",
    "norms",
    "embeddings",
    "head",
    "other",
)


def describe(model: ModelSpec) -> dict[str, Any]:
    """Sizes of ``model`` by part, and its shape: plain data for tables and JSON.

    ``parts`` has a row for each of PARTS with ``parameters`` and ``bytes``; they add up to the
    totals. ``experts``, ``top_k`` and ``expert_bytes`` are those of the first mixture, None for a
    dense model.
    """
    sizes = _sizes(model)
    mixture = model.moe_layers[0].moe if model.moe_layers else None
    return {
        "name": model.name,
        "family": model.family,
        "layers": len(model.layers),
        "encoder_layers": len(model.encoder_layers),
        "moe_layers": len(model.moe_layers),
        "experts": mixture.experts if mixture else None,
        "top_k": mixture.top_k if mixture else None,
        "expert_bytes": mixture.expert.bytes if mixture else None,
        "expert_dtype": mixture.expert.dtype if mixture else None,
        "hidden_size": model.hidden_size,
        "vocab_size": model.vocab_size,
        "kv_bytes_per_token": sum(layer.attention.kv_bytes_per_token for layer in model.layers),
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "bytes": model.bytes,
        "parts": [
            {"part": part, "parameters": sizes[part].parameters, "bytes": sizes[part].bytes}
            for part in PARTS
        ],
    }


def _sizes(model: ModelSpec) -> dict[str, Size]:
    sizes = dict.fromkeys(PARTS, NOTHING)
    for layer in model.layers:
        for part, size in _layer_sizes(layer).items():
            sizes[part] += size
    sizes["embeddings"] = Size(model.embedding_parameters, model.embedding_bytes)
    sizes["head"] = Size(model.head_parameters, model.head_bytes)
    sizes["other"] = Size(model.other_parameters, model.other_bytes)
    return sizes


def _layer_sizes(layer: LayerSpec) -> dict[str, Size]:
    sizes = {
        "attention": _size(layer.attention) + _size(layer.cross_attention),
        "dense": _size(layer.dense),
        "norms": Size(layer.norm_parameters, layer.norm_bytes),
    }
    if layer.moe is not None:
        moe = layer.moe
        experts = Size(moe.experts * moe.expert.parameters, moe.experts * moe.expert.bytes)
        router = Size(moe.router_parameters, moe.router_bytes)
        sizes |= {"experts": experts, "shared": _size(moe.shared), "router": router}
    return sizes


def _size(part: AttentionSpec | FfnSpec | None) -> Size:
    return Size(part.parameters, part.bytes) if part else NOTHING
