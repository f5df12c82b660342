"""Groups of layers that share one pool of blocks, as vLLM's hybrid KV cache manager makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from typing import Literal, NamedTuple

from moesim.model.spec import DELTA, LATENT, LayerSpec, ModelSpec

FEW_MORE = 1.5
"""Where the most layers of a kind are fewer than so many times the fewest, groups are as large as
the most, and the others are filled up; else as the fewest."""
CHUNKED, COMPRESSED = "chunked", "compressed"
"""Attention that vLLM lets keep all, unless VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is
set; and that whose pages it lays beside each other in a block (DeepSeek-V4)."""
KERNEL, LATENT_KERNEL = 16, 128
"""Tokens of which a block is a multiple where it grows to hold a state."""
HOPPER = 9.0
INSIDE = {DELTA: (64, HOPPER), "Kimi delta attention": (16, HOPPER), "Mamba2": (1, 0.0)}
"""Kernels that leave a state inside a step: tokens of which a block is a multiple then, and from
which compute capability on (vLLM 0.33, ``get_prefill_checkpoint_alignment`` of its layers)."""

Keeps = Literal["tokens", "state", "spare"]


class KvGroup(NamedTuple):
    """``layers``, by index, that keep a ``window`` of tokens of each request; None: all. A block of
    theirs is of ``times`` as many tokens as the smallest ones. They keep ``tokens``, or a ``state``
    at the end of a step, or ``spare``: one block, whatever the tokens.
    """

    window: int | None
    layers: tuple[int, ...]
    times: int = 1
    keeps: Keeps = "tokens"


@dataclass(frozen=True)
class KvAsked:
    """What is asked of a cache: tokens of a block, whether prefixes are found, ``drafts`` that a
    step verifies beside a token, and the GPU's compute ``capability``.
    """

    block_size: int
    caches_prefixes: bool = True
    drafts: int = 0
    capability: float = HOPPER


@dataclass(frozen=True)
class KvPlan:
    """``groups`` of layers whose smallest blocks are of ``block_size`` tokens, each of which takes
    ``page_bytes`` in a layer; ``inside``: a state inside a step is kept, too.
    """

    block_size: int
    page_bytes: int
    groups: tuple[KvGroup, ...]
    inside: bool = False


def kv_plan(model: ModelSpec, asked: KvAsked) -> KvPlan | None:
    """Groups of about as many layers of ``model``, those of one kind side by side, the first
    layer's first (vLLM 0.33, v1/core/kv_cache_planning.py, ``get_kv_cache_groups``); where some
    attend to chunks one of all layers. None where all layers keep all tokens, or states alone.

    Pages, what a block takes in a layer, are equal. Where they would not be, layers with smaller
    ones have blocks of more tokens, or, where these do not fit, pages that are filled up. To hold a
    state blocks of tokens grow (``_align_hybrid_block_size``).
    """
    layers = [layer for layer in model.cached_layers if layer.gpu_kv_bytes_per_token]
    tokens = [layer for layer in layers if not layer.attention.state_bytes]
    states = [layer for layer in layers if layer.attention.state_bytes]
    if not tokens or any(layer.attention.kind == COMPRESSED for layer in layers):
        return None
    if not states and all(layer.attention.window is None for layer in layers):
        return None
    inside = bool(states) and asked.caches_prefixes and _inside(states, asked)
    size = _block_size(tokens, states, asked) if states else asked.block_size
    page = size * max(layer.gpu_kv_bytes_per_token for layer in tokens)
    kinds: dict[tuple[int | None, int, Keeps], list[int]] = {}
    for layer in layers:
        kinds.setdefault(_kind_of(layer, size, page, asked), []).append(layer.index)
    groups = tuple(_grouped(kinds, asked.drafts))
    return KvPlan(size, page, groups, inside)


def _kind_of(
    layer: LayerSpec, size: int, page: int, asked: KvAsked
) -> tuple[int | None, int, Keeps]:
    """Its window, how many times the tokens its blocks have, and what it keeps."""
    block = layer.attention
    if block.state_bytes:
        return None, 1, "state" if asked.caches_prefixes else "spare"
    own = size * layer.gpu_kv_bytes_per_token
    times = 1 if page % own else page // own
    return None if block.kind == CHUNKED else block.window, times, "tokens"


def _grouped(
    kinds: dict[tuple[int | None, int, Keeps], list[int]], drafts: int
) -> Iterator[KvGroup]:
    """Of layers of each kind; one of states has a spare block for each draft."""
    counts = [len(layers) for layers in kinds.values()]
    size = max(counts) if max(counts) < FEW_MORE * min(counts) else min(counts)
    for (window, times, keeps), layers in kinds.items():
        number = -(-len(layers) // size)
        for k in range(number):
            yield KvGroup(window, tuple(layers[k::number]), times, keeps)
            if keeps != "tokens":
                yield from [KvGroup(None, (), keeps="spare")] * drafts


def _block_size(tokens: list[LayerSpec], states: list[LayerSpec], asked: KvAsked) -> int:
    """Tokens of a block that takes as much as the largest state, or more, in a layer."""
    unit = max(KERNEL, asked.block_size)
    if any(layer.attention.kind.startswith(LATENT) for layer in tokens):
        unit = max(unit, LATENT_KERNEL)
    if asked.caches_prefixes and _inside(states, asked):
        unit = lcm(unit, *(INSIDE[layer.attention.kind][0] for layer in states))
    each = max(layer.gpu_kv_bytes_per_token for layer in tokens)
    most = max(layer.attention.state_bytes for layer in states)
    return max(asked.block_size, unit * -(-most // (unit * each)))


def _inside(states: list[LayerSpec], asked: KvAsked) -> bool:
    """Whether the kernels of all ``states`` leave one inside a step."""
    never = (0, float("inf"))
    least = [INSIDE.get(layer.attention.kind, never)[1] for layer in states]
    return max(least) <= asked.capability
