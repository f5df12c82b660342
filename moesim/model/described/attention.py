"""Attention with a cache: grouped, sliding, chunked, latent, sparse by an index, compressed."""

from __future__ import annotations

from moesim.model.described.context import Context
from moesim.model.described.keys import ConfigError, Keys
from moesim.model.described.plan import CHUNKED, COMPRESSED, FULL, SLIDING, SPARSE
from moesim.model.spec import AttentionSpec
from moesim.model.weights import NOTHING, Size

HEAVY = 16
"""From this ratio on compressed keys are few, and all of them are read."""


def attending(context: Context, index: int, kind: str) -> AttentionSpec:
    """The attention of layer ``index``, which keeps keys and values."""
    if kind == COMPRESSED:
        return _compressed(context, index)
    if context.keys.number("kv_rank"):
        return _latent(context, index)
    return _grouped(context, index, kind)


def _grouped(context: Context, index: int, kind: str) -> AttentionSpec:
    heads, kv_heads, size, values = _heads(context, index, kind)
    keys, habits = context.keys, context.habits
    gated = 2 if keys.flag("gate", default=habits.gate) else 1
    same = kind == FULL and keys.flag("attention_k_eq_v")
    module = f"model.layers.{index}.self_attn"
    narrow, width = keys.number("share_q_dim"), heads * size * gated
    found = context.matrices(module, {
        "q_a_proj": (narrow, context.hidden), "q_proj": (width, narrow or context.hidden),
        "k_proj": (kv_heads * size, context.hidden),
        "v_proj": (0 if same else kv_heads * values, context.hidden),
        "o_proj": (context.hidden, heads * values),
        "g_proj": (heads if keys.flag("head_gate") else 0, context.hidden),
    })  # fmt: skip
    found += context.vectors(narrow) + _biases(context, heads * size + kv_heads * (size + values))
    found += _norms(context, heads, kv_heads, size)
    if habits.sinks or _sinks(keys, kind):
        found += context.vectors(heads)
    cached = kv_heads * (size + values) * context.element_bytes
    indexed, index_bytes, selected = _block_index(context, index)
    window = {SLIDING: keys.number("window"), CHUNKED: keys.number("chunk")}.get(kind) or None
    if kind == CHUNKED:
        keys.note(
            f"chunked attention is priced as a sliding window of {window} tokens: at most twice "
            "what it reads"
        )
    return AttentionSpec(
        heads, kv_heads, size, values, window, (found + indexed).parameters,
        (found + indexed).bytes, cached + index_bytes, SPARSE if selected else kind,
        selected=selected, index_bytes_per_token=index_bytes,
    )  # fmt: skip


def _heads(context: Context, index: int, kind: str) -> tuple[int, int, int, int]:
    """Heads, those of keys and values, the size of a head and of a value."""
    keys = context.keys
    other = keys.value("attention_other_setting")
    if kind == SLIDING and isinstance(other, dict):
        keys = Keys({**keys.config, **other})
    heads = keys.of_layer("heads", index) or _usual_heads(context)
    kv_heads = keys.of_layer("kv_heads", index) or heads
    size = keys.number("head_size") or _quotient(context, heads)
    values = keys.number("value_head_size") or size
    if kind == SLIDING:
        heads = keys.number("swa_num_attention_heads") or heads
        kv_heads = keys.number("swa_num_key_value_heads") or kv_heads
        size = keys.number("swa_head_dim") or size
        values = keys.number("swa_v_head_dim") or values
    if kind == FULL and keys.number("global_head_dim"):
        size = values = keys.number("global_head_dim")
        kv_heads = keys.number("num_global_key_value_heads") or kv_heads
    if heads % kv_heads:
        name = keys.name("kv_heads") or "num_key_value_heads"
        raise ConfigError(name, f"{heads} attention heads are not a multiple of {kv_heads}")
    return heads, kv_heads, size, values


def _usual_heads(context: Context) -> int:
    """Heads where no key speaks of them."""
    context.keys.note(
        "no key says the attention's heads: it is counted as four matrices of the hidden size"
    )
    return next(n for n in range(max(context.hidden // 128, 1), 0, -1) if context.hidden % n == 0)


def _quotient(context: Context, heads: int) -> int:
    if context.hidden % heads:
        what = f"{context.hidden} is not a multiple of {heads} heads; add head_dim"
        raise ConfigError(context.keys.name("hidden") or "hidden_size", what)
    return context.hidden // heads


def _biases(context: Context, width: int) -> Size:
    habits, said = context.habits, context.keys.flag("attention_bias")
    inputs = said if habits.attention_bias is None else habits.attention_bias
    outputs = said if habits.output_bias is None else habits.output_bias
    return context.vectors(width if inputs else 0, context.hidden if outputs else 0)


def _norms(context: Context, heads: int, kv_heads: int, size: int) -> Size:
    said = context.keys.value("qk_norm_type")
    shape = {"per_head": "head", "per_layer": "all"}.get(str(said), context.habits.qk_norm)
    if shape == "head":
        return context.vectors(2 * size)
    return context.vectors((heads + kv_heads) * size if shape == "all" else 0)


def _sinks(keys: Keys, kind: str) -> bool:
    sliding = kind == SLIDING
    return keys.flag("add_swa_attention_sink_bias" if sliding else "add_full_attention_sink_bias")


def _block_index(context: Context, index: int) -> tuple[Size, int, int | None]:
    """An index over blocks of keys (MiniMax-M3): its size, its bytes a token, tokens selected."""
    keys = context.keys
    blocks, size = keys.number("sparse_topk_blocks"), keys.number("index_size")
    if not blocks or not keys.of_layer("sparse_attention_freq", index, 1):
        return NOTHING, 0, None
    heads = keys.number("index_heads")
    found = context.matrices(
        f"model.layers.{index}.self_attn",
        {"index_q_proj": (heads * size, context.hidden), "index_k_proj": (size, context.hidden)},
    )
    found += context.vectors(2 * size)
    return found, size * context.element_bytes, blocks * max(keys.number("sparse_block_size"), 1)


def _latent(context: Context, index: int) -> AttentionSpec:
    keys, hidden, module = context.keys, context.hidden, f"model.layers.{index}.self_attn"
    heads, rank = keys.needed("heads"), keys.needed("kv_rank")
    nope, rope = keys.needed("nope_size"), keys.number("rope_size")
    values, queries = keys.needed("value_head_size"), keys.number("q_rank")
    width, gated = heads * (nope + rope), keys.flag("gate", default=context.habits.gate)
    found = context.matrices(module, {
        "q_a_proj": (queries, hidden), "q_b_proj": (width if queries else 0, queries),
        "q_proj": (0 if queries else width, hidden),
        "kv_a_proj_with_mqa": (rank + rope, hidden), "kv_b_proj": (heads * (nope + values), rank),
        "o_proj": (hidden, heads * values),
        "g_proj": (heads * values if gated else 0, hidden),
    })  # fmt: skip
    found += context.vectors(queries, rank)
    if keys.flag("attention_bias"):
        found += context.vectors(queries, rank + rope, hidden)
    indexed, index_bytes, selected = _token_index(context, index)
    cached = (rank + rope) * context.element_bytes + index_bytes
    return AttentionSpec(
        heads, heads, nope + rope, values, None, (found + indexed).parameters,
        (found + indexed).bytes, cached, "latent, sparse" if selected else "latent",
        selected=selected, index_bytes_per_token=index_bytes,
    )  # fmt: skip


def _token_index(context: Context, index: int) -> tuple[Size, int, int | None]:
    """The indexer of DeepSeek sparse attention; layers that share another's have none of it."""
    keys, module = context.keys, f"model.layers.{index}.self_attn.indexer"
    heads, size, top = (keys.number(name) for name in ("index_heads", "index_size", "index_top"))
    if not (heads and size and top):
        return NOTHING, 0, None
    types = keys.value("indexer_types")
    if isinstance(types, list) and index < len(types) and types[index] == "shared":
        return NOTHING, 0, top
    found = context.matrices(module, {
        "wq_b": (heads * size, keys.number("q_rank") or context.hidden),
        "wk": (size, context.hidden), "weights_proj": (heads, context.hidden),
    })  # fmt: skip
    pool = max(keys.number("index_kpool"), 1)
    return found + context.vectors(2 * size), _ceil(size * context.element_bytes, pool), top


def _compressed(context: Context, index: int) -> AttentionSpec:
    """DeepSeek-V4: one key that is its own value, a short window, and older keys by compression."""
    keys, hidden, module = context.keys, context.hidden, f"model.layers.{index}.self_attn"
    heads, size = keys.needed("heads"), keys.needed("head_size")
    queries, rank = keys.needed("q_rank"), keys.number("o_lora_rank")
    groups = max(keys.number("o_groups"), 1)
    found = context.matrices(module, {
        "q_a_proj": (queries, hidden), "q_b_proj": (heads * size, queries),
        "kv_proj": (size, hidden), "o_a_proj": (groups * rank, _ceil(heads * size, groups)),
        "o_b_proj": (hidden, groups * rank), "o_proj": (0 if rank else hidden, heads * size),
    })  # fmt: skip
    found += context.vectors(queries, size, heads)
    ratio, width = _ratio(context, index), size * context.element_bytes
    if not ratio:
        window = keys.number("window") or None
        return AttentionSpec(
            heads, 1, size, size, window, found.parameters, found.bytes, width, SLIDING
        )
    more, index_bytes, selected = _compressor(context, index, ratio)
    own = width if _is_source(keys, "kv_source_layer_ids", index) else 0
    cached = _ceil(own, ratio) + index_bytes
    keys.note(
        "compressed attention reads its compressed keys; the window of "
        f"{keys.number('window')} tokens beside them is not counted"
    )
    return AttentionSpec(
        heads, 1, size, size, None, (found + more).parameters, (found + more).bytes, cached,
        COMPRESSED, selected=selected, index_bytes_per_token=index_bytes,
    )  # fmt: skip


def _ratio(context: Context, index: int) -> int:
    """Tokens in one compressed key of layer ``index``; 0 without compression."""
    rates = context.keys.value("compress_rates")
    types = context.keys.value("attention_types")
    if isinstance(rates, dict) and isinstance(types, list):
        return int(rates.get(types[index], 0))
    ratios = context.keys.value("compress_ratios")
    if not isinstance(ratios, list) or index >= len(ratios):
        raise ConfigError("compress_ratios", f"says nothing of layer {index}")
    return context.keys.checked("compress_ratios", ratios[index])


def _compressor(context: Context, index: int, ratio: int) -> tuple[Size, int, int | None]:
    """What makes compressed keys, and their index where they are many."""
    keys, hidden, module = context.keys, context.hidden, f"model.layers.{index}.self_attn"
    size, light = keys.needed("head_size"), ratio < HEAVY
    wide = size * (2 if light else 1)
    found = NOTHING
    if _is_source(keys, "kv_source_layer_ids", index):
        found += context.matrices(
            f"{module}.compressor", {"kv_proj": (wide, hidden), "gate_proj": (wide, hidden)}
        )
        found += context.vectors(ratio * wide, size)
    heads, narrow, top = (keys.number(name) for name in ("index_heads", "index_size", "index_top"))
    if not (light and heads and top):
        return found, 0, None
    if not _is_source(keys, "index_source_layer_ids", index):
        return found, 0, top * ratio
    found += context.matrices(f"{module}.indexer", {
        "wq_b": (heads * narrow, keys.number("q_rank")), "weights_proj": (heads, hidden),
        "kv_proj": (2 * narrow, hidden), "gate_proj": (2 * narrow, hidden),
    })  # fmt: skip
    found += context.vectors(2 * ratio * narrow, narrow)
    return found, _ceil(narrow * context.element_bytes, ratio), top * ratio


def _is_source(keys: Keys, name: str, index: int) -> bool:
    """Whether layer ``index`` has its own: without a list every layer has."""
    listed = keys.layers_in(name)
    return listed is None or index in listed


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)
