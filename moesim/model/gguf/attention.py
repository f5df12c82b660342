"""The attention of a layer in a GGUF file, by its tensors and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from moesim.model.described.state import CHUNK
from moesim.model.gguf.metadata import Metadata
from moesim.model.gguf.tensors import ATTENTION, Block, type_of
from moesim.model.spec import DELTA, NO_ATTENTION, AttentionSpec

HALF, FP32 = 2, 4
PERIODS: Mapping[str, int] = {
    "gpt-oss": 2, "gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "llama4": 4, "exaone4": 4,
    "exaone-moe": 4, "afmoe": 4, "smallthinker": 4, "olmo2": 4, "gemma4": 6, "step35": 4,
}  # fmt: skip
"""Architectures whose files do not say which layers slide: all but the last of every n
(``set_swa_pattern`` in llama.cpp's llama-model.cpp, MIT)."""
CHUNKED = ("llama4",)


def attention_of(metadata: Metadata, layer: int, block: Block) -> AttentionSpec:
    """The attention of ``layer``; NO_ATTENTION where it has no tensors of it."""
    size = block.size(ATTENTION)
    if not size.parameters:
        return NO_ATTENTION
    return replace(_attention(metadata, layer, block), dtype=type_of(block.classes[ATTENTION]))


def _attention(metadata: Metadata, layer: int, block: Block) -> AttentionSpec:
    stateful = block.named("ssm_", "shortconv") is not None
    if stateful or any(name.startswith("ssm_") for name in block.names):
        return _stateful(metadata, layer, block)
    if metadata.number("attention.kv_lora_rank") and block.named("attn_kv_a"):
        return _latent(metadata, layer, block)
    return _grouped(metadata, layer, block)


def _grouped(metadata: Metadata, layer: int, block: Block) -> AttentionSpec:
    size, heads = block.size(ATTENTION), _heads(metadata, layer)
    kv_heads = metadata.of_layer("attention.head_count_kv", layer) or heads
    window = window_of(metadata, layer)
    ending = "_swa" if window and metadata.number("attention.key_length_swa") else ""
    usual = metadata.needed("embedding_length") // heads
    keys = metadata.number(f"attention.key_length{ending}") or usual
    values = metadata.number(f"attention.value_length{ending}") or keys
    cached = kv_heads * (keys + values) * HALF
    return AttentionSpec(
        heads, kv_heads, keys, values, window, size.parameters, size.bytes, cached,
        "sliding" if window else "full",
    )  # fmt: skip


def _heads(metadata: Metadata, layer: int) -> int:
    """Heads of ``layer``; where the file says 0 of it, one: its tensors are there."""
    return metadata.of_layer("attention.head_count", layer) or 1


def window_of(metadata: Metadata, layer: int) -> int | None:
    """The sliding window of ``layer`` in tokens; None for full attention."""
    chunk = metadata.number("attention.chunk_size")
    if not (window := metadata.number("attention.sliding_window") or chunk):
        return None
    pattern = metadata.value("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        slides = bool(pattern[layer]) if layer < len(pattern) else False
    else:
        period = pattern if isinstance(pattern, int) and pattern > 1 else None
        period = period or PERIODS.get(metadata.architecture, 0)
        slides = layer % period < period - 1 if period else True
    if slides and metadata.architecture in CHUNKED:
        metadata.note(
            f"chunked attention is priced as a sliding window of {window} tokens: at most twice "
            "what it reads"
        )
    return window if slides else None


def _latent(metadata: Metadata, layer: int, block: Block) -> AttentionSpec:
    size, heads = block.size(ATTENTION), _heads(metadata, layer)
    rank, rope = metadata.number("attention.kv_lora_rank"), metadata.number("rope.dimension_count")
    keys = metadata.number("attention.key_length_mla") or metadata.number("attention.key_length")
    values = metadata.number("attention.value_length_mla") or metadata.number(
        "attention.value_length"
    )
    index = metadata.number("attention.indexer.key_length") * HALF if _indexed(block) else 0
    top = metadata.number("attention.indexer.top_k") if index else 0
    return AttentionSpec(
        heads, heads, keys or rank, values or rank, None, size.parameters, size.bytes,
        (rank + rope) * HALF + index, "latent, sparse" if top else "latent",
        selected=top or None, index_bytes_per_token=index,
    )  # fmt: skip


def _indexed(block: Block) -> bool:
    return any(name.startswith("indexer") for name in block.names)


def _stateful(metadata: Metadata, layer: int, block: Block) -> AttentionSpec:
    """A constant state: as many numbers as the inner size times the state's."""
    size, states = block.size(ATTENTION), metadata.number("ssm.state_size")
    inner, kernel = metadata.number("ssm.inner_size"), metadata.number("ssm.conv_kernel", 4)
    heads = metadata.number("ssm.time_step_rank") or _heads(metadata, layer)
    if narrow := metadata.number("kda.head_dim"):
        inner, states, heads = _heads(metadata, layer) * narrow, narrow, _heads(metadata, layer)
    convolved = inner + 2 * metadata.number("ssm.group_count") * states
    if block.named("shortconv"):
        inner, states, kernel = 0, 0, metadata.number("shortconv.l_cache", 3)
        convolved, heads = metadata.needed("embedding_length"), 1
    kind = DELTA if block.named("ssm_beta", "ssm_ba") and not narrow else "state"
    state = (inner * states + convolved * max(kernel - 1, 0)) * FP32
    metadata.note(
        "layers with a constant state in place of a cache: their time is that of the bytes of "
        "weights and state"
    )
    return AttentionSpec(
        heads, heads, max(states, 1), max(inner // heads, 1), CHUNK, size.parameters, size.bytes,
        -(-state // CHUNK), kind, state_bytes=state,
    )  # fmt: skip
