"""The rows per expert behind a table's ``distribution``, drawn as its collector does.

From the code of aiconfigurator's MoE collector: ``balanced`` strides over the experts;
``power_law_A`` draws each expert's share. The collector's own draws are not kept, so the mean over
``DRAWS`` sorted draws stands for them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DRAWS = 50
Counts = NDArray[np.int64]


@lru_cache(maxsize=4096)
def balanced_distinct(tokens: int, top_k: int, experts: int) -> int:
    """Distinct experts of ``balanced``; few tokens repeat some, as ids are computed in bf16."""
    stride = -(-experts // top_k)
    if tokens >= stride:
        return min(experts, tokens * top_k)
    offsets = np.arange(tokens)[:, None] * np.float32(stride) / np.float32(tokens)
    ids = _bf16(_bf16(offsets) + np.arange(top_k)[None] * np.float32(stride)) % experts
    return len(np.unique(ids.astype(np.int64)))


def _bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``values`` rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    return rounded.view(np.float32)


@lru_cache(maxsize=4096)
def power_law_rows(tokens: int, top_k: int, experts: int, alpha: float) -> tuple[int, ...]:
    """Rows of each expert, descending: the mean of sorted draws, rounded to the same total."""
    random = np.random.default_rng(tokens * 1_000_003 + experts * 101 + top_k)
    draws = _power_law_draws(tokens, top_k, experts, alpha, random)
    mean = np.sort(draws, axis=1)[:, ::-1].mean(axis=0)
    rows = np.floor(mean).astype(np.int64)
    lacking = tokens * top_k - int(rows.sum())
    rows[np.argsort(rows - mean, kind="stable")[:lacking]] += 1
    return tuple(int(count) for count in np.sort(rows)[::-1])


def _power_law_draws(
    tokens: int, top_k: int, experts: int, alpha: float, random: np.random.Generator
) -> Counts:
    """``DRAWS`` draws [draw, expert]; what rounding loses goes to the smallest counts, what it
    adds is taken from the largest.
    """
    if not np.isfinite(alpha) or alpha == 1:
        raise ValueError(f"no power law has the exponent {alpha}")
    power, total = 1 - alpha, tokens * top_k
    low, high = (1.0, 0.8 * tokens) if total > experts else (0.01, 2.0)
    uniform = random.random((DRAWS, experts))
    shares = ((high**power - low**power) * uniform + low**power) ** (1 / power)
    scaled = shares / shares.sum(axis=1, keepdims=True) * total
    counts = np.minimum(np.round(scaled).astype(np.int64), tokens)
    while (lacking := total - counts.sum(axis=1, keepdims=True)).any():
        sign = np.sign(lacking)
        able = np.where(lacking > 0, counts < tokens, counts > 0)
        order = np.argsort(np.where(able, counts * sign, total + 1), axis=1, kind="stable")
        chosen = np.arange(experts) < np.minimum(np.abs(lacking), able.sum(axis=1, keepdims=True))
        change = np.zeros_like(counts)
        np.put_along_axis(change, order, chosen * sign, axis=1)
        counts += change
    return np.asarray(counts, np.int64)
