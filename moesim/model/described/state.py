"""Layers with a constant state in place of a cache: linear attention, Mamba, short convolutions."""

from __future__ import annotations

from moesim.model.described.context import Context
from moesim.model.described.keys import Keys
from moesim.model.described.plan import CONV, MAMBA
from moesim.model.spec import DELTA, AttentionSpec
from moesim.model.weights import Size

CHUNK = 64
"""Tokens that the kernel of a linear attention takes at once, if no key says so."""
_FP32, _HALF = 4, 2


def stateful(context: Context, index: int, kind: str) -> AttentionSpec:
    """Layer ``index`` with a state; which of its kinds is in its keys."""
    keys, module = context.keys, f"model.layers.{index}.linear_attn"
    if kind == CONV:
        return _convolution(context, module)
    if kind == MAMBA:
        build = _mamba if keys.name("state_heads") is None else _mamba2
        return build(context, module)
    if keys.name("linear_num_value_heads") is not None:
        return _gated_delta(context, module)
    if isinstance(keys.value("linear_attn_config"), dict) or keys.name("linear_num_heads"):
        return _kimi_delta(context, module)
    build = _lightning if keys.name("state_heads") is None else _mamba2
    return build(context, module)


def _layer(
    context: Context, kind: str, size: Size, heads: tuple[int, int, int], state: int, chunk: int
) -> AttentionSpec:
    count, queries, values = heads
    context.keys.note(
        f"{kind} keeps a constant state: its time is that of the bytes of weights and state, and "
        "of products over chunks"
    )
    return AttentionSpec(
        count, count, queries, values, chunk, size.parameters, size.bytes, -(-state // chunk),
        kind, state_bytes=state,
    )  # fmt: skip


def _gated_delta(context: Context, module: str) -> AttentionSpec:
    """Gated DeltaNet (Qwen3-Next, Qwen3.5)."""
    keys, hidden = context.keys, context.hidden
    k_heads, v_heads = keys.needed("linear_num_key_heads"), keys.needed("linear_num_value_heads")
    k_size, v_size = keys.needed("linear_key_head_dim"), keys.needed("linear_value_head_dim")
    key, value, kernel = k_heads * k_size, v_heads * v_size, keys.number("state_kernel", 4)
    found = context.matrices(module, {
        "in_proj_qkv": (2 * key + value, hidden), "in_proj_z": (value, hidden),
        "in_proj_ba": (2 * v_heads, hidden), "out_proj": (hidden, value),
    })  # fmt: skip
    found += context.vectors((2 * key + value) * kernel, 2 * v_heads, v_size)
    state = v_heads * k_size * v_size * _state_bytes(keys) + (2 * key + value) * kernel * _HALF
    return _layer(context, DELTA, found, (v_heads, k_size, v_size), state, CHUNK)


def _kimi_delta(context: Context, module: str) -> AttentionSpec:
    """Kimi delta attention (Kimi-Linear, GLM-5.3-Flash)."""
    linear = context.keys.value("linear_attn_config")
    keys = Keys({**context.keys.config, **linear}) if isinstance(linear, dict) else context.keys
    hidden = context.hidden
    heads = keys.number("linear_num_heads") or keys.needed("num_heads")
    size = keys.number("linear_head_dim") or keys.needed("head_dim")
    width, kernel = heads * size, keys.number("state_kernel", 4)
    whole = keys.flag("use_full_rank_gate")
    found = context.matrices(module, {
        "q_proj": (width, hidden), "k_proj": (width, hidden), "v_proj": (width, hidden),
        "f_a_proj": (size, hidden), "f_b_proj": (width, size), "b_proj": (heads, hidden),
        "g_a_proj": (0 if whole else size, hidden), "g_b_proj": (0 if whole else width, size),
        "g_proj": (width if whole else 0, hidden), "o_proj": (hidden, width),
    })  # fmt: skip
    found += context.vectors(3 * width * kernel, width, heads, size)
    state = width * size * _state_bytes(keys) + 3 * width * kernel * _HALF
    return _layer(context, "Kimi delta attention", found, (heads, size, size), state, CHUNK)


def _lightning(context: Context, module: str) -> AttentionSpec:
    """Lightning attention (MiniMax-01, Ling): a gate on the output."""
    keys, hidden = context.keys, context.hidden
    heads = keys.needed("heads")
    size = keys.number("head_size") or hidden // heads
    width = heads * size
    found = context.matrices(module, {
        "qkv_proj": (3 * width, hidden), "output_gate": (width, hidden),
        "out_proj": (hidden, width),
    })  # fmt: skip
    found += context.vectors(width)
    state = width * size * _state_bytes(keys)
    return _layer(context, "lightning attention", found, (heads, size, size), state, CHUNK)


def _mamba2(context: Context, module: str) -> AttentionSpec:
    """Mamba2 (Nemotron-H, Granite 4)."""
    keys, hidden = context.keys, context.hidden
    heads, states = keys.needed("state_heads"), keys.needed("state_size")
    expanded = keys.number("state_expand", 2) * hidden
    size = keys.number("state_head_size") or max(expanded // heads, 1)
    inner, kernel = heads * size, keys.number("state_kernel", 4)
    convolved = inner + 2 * keys.number("state_groups", 1) * states
    found = context.matrices(module, {
        "in_proj": (inner + convolved + heads, hidden), "out_proj": (hidden, inner),
    })  # fmt: skip
    found += context.vectors(convolved * (kernel + 1), 3 * heads, inner)
    state = inner * states * _state_bytes(keys) + convolved * kernel * _HALF
    chunk = min(max(keys.number("state_chunk", 128), 1), 256)
    return _layer(context, "Mamba2", found, (heads, states, size), state, chunk)


def _mamba(context: Context, module: str) -> AttentionSpec:
    """Mamba (Jamba)."""
    keys, hidden = context.keys, context.hidden
    inner = keys.number("state_expand", 2) * hidden
    states, kernel = keys.number("state_size", 16), keys.number("state_kernel", 4)
    rank = keys.number("mamba_dt_rank") if isinstance(keys.value("mamba_dt_rank"), int) else 0
    rank = rank or -(-hidden // 16)
    found = context.matrices(module, {
        "in_proj": (2 * inner, hidden), "x_proj": (rank + 2 * states, inner),
        "dt_proj": (inner, rank), "out_proj": (hidden, inner),
    })  # fmt: skip
    found += context.vectors(inner * (kernel + 1), inner, inner * states, inner, rank + 2 * states)
    state = inner * states * _state_bytes(keys) + inner * kernel * _HALF
    return _layer(context, "Mamba", found, (1, states, inner), state, CHUNK)


def _convolution(context: Context, module: str) -> AttentionSpec:
    """A gated short convolution (LFM2)."""
    hidden, kernel = context.hidden, context.keys.number("state_kernel", 3)
    found = context.matrices(
        module, {"in_proj": (3 * hidden, hidden), "out_proj": (hidden, hidden)}
    ) + context.vectors(hidden * kernel)
    state = hidden * kernel * _HALF
    return _layer(context, "short convolution", found, (1, kernel, hidden), state, CHUNK)


def _state_bytes(keys: Keys) -> int:
    return _HALF if "16" in str(keys.value("state_dtype") or "") else _FP32
