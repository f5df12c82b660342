"""Attention's scores from fits: the simulator's side of ``calibrated.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moesim.hardware.card import Card, card_of
from moesim.hardware.operations.attention.calibrated import (
    DECODE,
    ONE_CALL,
    PREFILL,
    attention_fit_for,
    attention_numbers,
    in_one_call,
    latent_fit_for,
)
from moesim.hardware.operations.attention.kernel import (
    AttentionNumbers,
    attention_ns,
    attention_terms,
    joint_ns,
    waiting_ns,
)
from moesim.hardware.operations.attention.tiles import PACKED, AttentionShape
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import AttentionFit
from moesim.hardware.prices.parts import MEASURED, Amount, Detail, tabled_source
from moesim.hardware.prices.provenance import Source
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import AttentionSpec


class Scores(NamedTuple):
    """Nanoseconds of n calls, 0 where no fit has them; their ``Source``; whether a fit has them;
    the terms of the last fit's calls.
    """

    time_ns: Floats
    source: NDArray[np.int64]
    fitted: NDArray[np.bool_]
    of: Callable[[], Detail]


NO_TERMS: Callable[[], Detail] = Detail
FEW_QUERIES = 16
"""The most queries of a request that kernels of decodes take (vLLM 0.33.0's FlashMLA takes
128; all verify their drafts with them)."""


class Cache(NamedTuple):
    """The format of keys and values, and whether they may still lie in the L2, as in a call that is
    repeated; in a run other layers' weights were read since.
    """

    dtype: str
    element_bytes: float
    warm: bool = False


class Uniform(NamedTuple):
    """Equal requests that have given sums; each [n]. See ``AttentionShape``."""

    batch: Floats
    queries: Floats
    context: Floats
    keys: Floats


def uniform(tokens: ArrayLike, context_tokens: ArrayLike, kv_tokens: ArrayLike) -> Uniform:
    """The equal requests with as many tokens, keys attended to and keys read.

    With q queries and c keys a request, keys a token are c - (q - 1) / 2 and keys read a token
    c / q; both give q. Decode (as many keys attended to as read) has q = 1 and its mean context;
    whole prompts have q = c, their mean length weighted by tokens. Inside a sliding window a prompt
    becomes several of about twice the window.
    """
    count = np.maximum(np.asarray(tokens, np.float64), 1.0)
    keys = np.maximum(np.asarray(context_tokens, np.float64) / count, 1.0)
    read = np.maximum(np.asarray(kv_tokens, np.float64) / count, 0.0)
    queries = np.clip((keys - 0.5) / np.maximum(read - 0.5, 1 / 2), 1.0, count)
    found = (count / queries, queries, np.maximum(read * queries, keys), keys)
    return Uniform(*(np.asarray(values) for values in np.broadcast_arrays(*found)))


def fitted_scores(
    profile: HardwareProfile, block: AttentionSpec, cache: Cache, requests: Uniform,
    longest: ArrayLike = 0,
) -> Scores:  # fmt: skip
    """The scores of calls, their start and the cache's update included. ``longest``: the most keys
    of a request that decodes, where they are not equal.

    Nothing is fitted where the cache is not of whole keys and values: encoders, other formats.
    Decodes over a latent read one head whose key and value are half of it each; its prompts have
    keys and values of all heads. A few queries of a request, as drafts are verified, are a prompt
    or, where the kernel of decodes packs heads, a decode of so many times as many heads: whichever
    is cheaper.
    """
    time = np.zeros(np.shape(requests.queries))
    found = Scores(
        time, np.full_like(time, Source.DATASHEET, np.int64), np.zeros_like(time, bool), NO_TERMS
    )
    for op in (PREFILL, DECODE):
        head_dim = _cached_head(block, cache, op)
        fit = _fit_for(profile, op, block, cache.dtype, head_dim) if head_dim else None
        if fit is None:
            continue
        mine = _taken(op, requests, packs=block.latent or fit.layout == PACKED)
        if not mine.any():
            continue
        part = Uniform(*(values[mine] for values in requests))
        alone = block.latent and op == DECODE
        heads = replace(block, kv_heads=1) if alone else block
        call = _call(part, heads, cache, head_dim, profile.peak(cache.dtype))
        if op == DECODE:
            call = _packed(call)
        numbers, card = attention_numbers(fit, profile), card_of(profile)
        columns = call._asdict()
        ratios = fit.table.at(columns) if fit.table else None
        if ratios is not None:
            ratios = ratios._replace(measured=ratios.measured & call.warm)
        ratio = 1.0 if ratios is None else ratios.ratio
        priced = attention_ns(numbers, fit.layout, call, card) * ratio
        if op == DECODE and np.any(longest):
            last = np.broadcast_to(longest, mine.shape)[mine]
            priced += waiting_ns(numbers, fit.layout, call, last, card)
        taken = ~found.fitted[mine] | (priced < found.time_ns[mine])
        mine[mine] = taken
        found.time_ns[mine] = priced[taken]
        found.source[mine] = tabled_source(fit.measured, columns, ratios)[taken]
        found.fitted[mine] = True
        if taken.any():
            found = found._replace(of=partial(_terms, fit, numbers, call, card, ratio))
    return found


def _taken(op: str, requests: Uniform, *, packs: bool) -> NDArray[np.bool_]:
    """The calls that kernels of ``op`` may have; ``packs``: that of decodes, all heads' queries."""
    if op == PREFILL:
        return np.asarray(requests.queries != 1)
    return np.asarray(requests.queries <= (FEW_QUERIES if packs else 1))


def _packed(call: AttentionShape) -> AttentionShape:
    """``call`` as one of single queries: those of a request are heads more."""
    alone = np.ones_like(call.queries)
    return call._replace(queries=alone, heads=call.heads * call.queries, keys=call.context)


def joint_scores(
    profile: HardwareProfile, block: AttentionSpec, cache: Cache, groups: tuple[Uniform, Uniform],
    longest: ArrayLike = 0,
) -> Floats | None:  # fmt: skip
    """The scores of prompts and of decodes beside them, where one call serves both; None where the
    kernels are apart, or are not of such a cache.
    """
    heads = {op: _cached_head(block, cache, op) for op in (PREFILL, DECODE)}
    if not all(heads.values()):
        return None
    prompts, decodes = (
        _fit_for(profile, op, block, cache.dtype, head) for op, head in heads.items()
    )
    if prompts is None or decodes is None or not in_one_call(prompts, decodes):
        return None
    head, peak = heads[PREFILL], profile.peak(cache.dtype)
    flat = (Uniform(*map(np.ravel, group)) for group in groups)
    together, beside = (_call(group, block, cache, head, peak) for group in flat)
    numbers, decoding = (attention_numbers(fit, profile) for fit in (prompts, decodes))
    card, last = card_of(profile), np.ravel(np.broadcast_to(longest, np.shape(groups[1].keys)))
    time = joint_ns(numbers, prompts.layout, (together, beside), decoding, card)
    time = time + waiting_ns(decoding, prompts.layout, beside, last, card, beside=True)
    return time.reshape(np.shape(groups[0].queries))


def waits_for_longest(profile: HardwareProfile, block: AttentionSpec, cache: Cache) -> bool:
    """Whether decodes wait for the longest request: FlashAttention's do that do not pack, unless
    the software has kernels of its own.
    """
    if profile.mixed_attention == "apart":
        return False
    head_dim = _cached_head(block, cache, DECODE) if block.heads else 0.0
    fit = _fit_for(profile, DECODE, block, cache.dtype, head_dim) if head_dim else None
    return fit is not None and fit.layout != PACKED and ONE_CALL in (fit.kernel or "")


def _cached_head(block: AttentionSpec, cache: Cache, op: str) -> float:
    """The head size that a kernel of ``op`` sees, 0 where the cache is of something else."""
    head_dim = (block.query_key_head_size + block.value_head_size) / 2
    if block.latent:
        cached = block.kv_bytes_per_token / (2 * cache.element_bytes)
        return cached if op == DECODE else head_dim
    whole = 2 * block.kv_heads * head_dim * cache.element_bytes
    return head_dim if block.kv_bytes_per_token == whole else 0.0


def score_fits(
    profile: HardwareProfile, block: AttentionSpec, cache: Cache
) -> list[AttentionFit | None]:
    """The fits of decodes and of prompts."""
    heads = {op: _cached_head(block, cache, op) for op in (DECODE, PREFILL) if block.heads}
    return [_fit_for(profile, op, block, cache.dtype, dim) for op, dim in heads.items() if dim]


def _fit_for(
    profile: HardwareProfile, op: str, block: AttentionSpec, dtype: str, head_dim: float
) -> AttentionFit | None:
    if block.latent:
        return latent_fit_for(profile, op, dtype)
    return attention_fit_for(profile, op, dtype, head_dim)


def _terms(
    fit: AttentionFit, numbers: AttentionNumbers, call: AttentionShape, card: Card, ratio: Any
) -> Detail:
    terms = attention_terms(numbers, fit.layout, call, card)
    named = {
        "start": terms.start,
        "splitting and merging": terms.split,
        "appending to the cache": terms.write,
        "memory (overlaps)": terms.memory,
        "busiest multiprocessor (overlaps)": terms.busy,
        MEASURED: terms.total * (ratio - 1),
    }
    return Detail([Amount(name, time) for name, time in named.items()], fit)


def _call(
    part: Uniform, block: AttentionSpec, cache: Cache, head_dim: float, peak: float
) -> AttentionShape:
    values = {
        "heads": block.heads,
        "kv_heads": block.kv_heads,
        "head_dim": head_dim,
        "element_bytes": cache.element_bytes,
        "peak": peak,
    }
    each = {name: np.full(part.batch.shape, float(value)) for name, value in values.items()}
    return AttentionShape(**part._asdict(), **each, warm=np.full(part.batch.shape, cache.warm))
