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
        "kv_bytes_per_token": kv_bytes_per_token(model),
        "state_bytes": sum(layer.attention.state_bytes for layer in model.layers),
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "bytes": model.bytes,
        "parts": [
            {"part": part, "parameters": sizes[part].parameters, "bytes": sizes[part].bytes}
            for part in PARTS
        ],
    }


def kv_bytes_per_token(model: ModelSpec) -> int:
    """Bytes of one cached token in all layers that have a cache, in windows too."""
    blocks = (layer.attention for layer in model.layers)
    return sum(block.kv_bytes_per_token for block in blocks if not block.state_bytes)


def by_layer(model: ModelSpec) -> dict[str, Any]:
    """``model`` as in ``describe``, but ``layers`` has a row for each layer (``expert_bytes`` is
    that of one expert, 0 without), and with ``mtp`` (layers that no run executes, not part of the
    totals) and ``notes`` (what is not known, or not priced as it is).
    """
    mtp = (model.mtp_layers, model.mtp_parameters, model.mtp_bytes)
    return {
        **describe(model),
        "longest_context": model.longest_context,
        "layers": [layer_row(layer) for layer in model.layers],
        "mtp": dict(zip(("layers", "parameters", "bytes"), mtp, strict=True)),
        "notes": list(model.notes),
    }


def layer_row(layer: LayerSpec) -> dict[str, Any]:
    """One layer as plain data; bytes are those of all its experts but for ``expert_bytes``."""
    moe, block, sizes = layer.moe, layer.attention, _layer_sizes(layer)
    return {
        "index": layer.index,
        "stack": layer.stack,
        "parameters": layer.parameters,
        "bytes": layer.bytes,
        "attention": block.kind,
        "window": None if block.state_bytes else block.window,
        "kv_bytes_per_token": 0 if block.state_bytes else block.kv_bytes_per_token,
        "state_bytes": block.state_bytes,
        "experts": moe.experts if moe else 0,
        "top_k": moe.top_k if moe else 0,
        "expert_bytes": moe.expert.bytes if moe else 0,
        "expert_dtype": moe.expert.dtype if moe else None,
        **{f"{part}_bytes": size.bytes for part, size in sizes.items()},
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
    moe = layer.moe
    experts, router = NOTHING, NOTHING
    if moe is not None:
        experts = Size(moe.experts * moe.expert.parameters, moe.experts * moe.expert.bytes)
        router = Size(moe.router_parameters, moe.router_bytes)
    return {
        "attention": _size(layer.attention) + _size(layer.cross_attention),
        "experts": experts,
        "shared": _size(moe.shared if moe else None),
        "router": router,
        "dense": _size(layer.dense),
        "norms": Size(layer.norm_parameters, layer.norm_bytes),
    }


def _size(part: AttentionSpec | FfnSpec | None) -> Size:
    return Size(part.parameters, part.bytes) if part else NOTHING
