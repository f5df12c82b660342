"""Groups of layers that share one pool of blocks, as vLLM's hybrid KV cache manager makes them."""

from __future__ import annotations

from typing import NamedTuple

from moesim.model.spec import ModelSpec

FEW_MORE = 1.5
"""Where the most layers of a kind are fewer than so many times the fewest, groups are as large as
the most, and the others are filled up; else as the fewest."""
CHUNKED = "chunked"
"""Attention that vLLM lets keep all, unless VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is
set."""


class KvGroup(NamedTuple):
    """``layers``, by index, that keep a ``window`` of tokens of each request; None: all."""

    window: int | None
    layers: tuple[int, ...]


def kv_groups(model: ModelSpec) -> tuple[KvGroup, ...]:
    """Groups of about as many layers of ``model``, those of one window side by side, the first
    layer's first (vLLM 0.33, v1/core/kv_cache_planning.py,
    ``_get_kv_cache_groups_uniform_page_size``); where some attend to chunks one of all layers. ()
    where no layer has a window, or where it divides them otherwise: they differ in bytes a token,
    or have constant states.
    """
    kinds: dict[int | None, list[int]] = {}
    cached = [layer for layer in model.layers if layer.gpu_kv_bytes_per_token]
    for layer in cached:
        kept = None if layer.attention.kind == CHUNKED else layer.attention.window
        kinds.setdefault(kept, []).append(layer.index)
    uneven = len({layer.gpu_kv_bytes_per_token for layer in cached}) > 1
    states = any(one.attention.state_bytes for one in cached)
    if uneven or states or all(one.attention.window is None for one in cached):
        return ()
    counts = [len(layers) for layers in kinds.values()]
    size = max(counts) if max(counts) < FEW_MORE * min(counts) else min(counts)
    groups = []
    for window, layers in kinds.items():
        number = -(-len(layers) // size)
        groups += [KvGroup(window, tuple(layers[k::number])) for k in range(number)]
    return tuple(groups)
