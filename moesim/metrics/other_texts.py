"""How many distinct experts the tokens of another text would choose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.metrics.price_interval import Limits

Floats = NDArray[np.float64]
OTHER_TEXTS = "experts that other texts choose"
EXPONENTS = (0.42, 2.4)
"""To what power an expert's share of the tokens of one text is to be raised, for as many distinct
experts as the tokens of another one choose: 5th and 95th percentile of 750 pairs of domains (six
under OLMoE-1B-7B, five under Mixtral-8x7B; layers 0, 7 and 15; 4 to 64 tokens, which make no
difference), from the counts of allenai/OLMoE, scripts/routing_output, 208,896 tokens a domain.
"""
MOST_ROWS = 128
"""Of an expert, from which kernels compute longer than they read: in the time of a byte an RTX 4090
does 160 operations, an H100 300, and a row takes one for each byte of weights in 16 bits.
"""
STEPS = 4
"""Sizes of passes that are told apart from one to its double."""


def distinct_of_other_texts(
    counts: NDArray[np.int64], tokens: int, rows: NDArray[np.int64]
) -> Limits:
    """Between which multiples of the distinct experts of passes with so many ``rows`` int64[passes]
    those of another text lie, as rare or popular experts may be rarer and more popular there, or
    less so. ``counts`` int64[layers, experts]: how many of ``tokens`` use each. Passes of
    one row have none to differ by, and those so large that kernels compute count as they are.
    """
    share = counts / tokens
    sizes = np.exp2(np.round(np.log2(rows) * STEPS) / STEPS)
    reads = sizes * share.mean() < MOST_ROWS
    own, *others = (
        _distinct(_skewed(share, power), sizes[reads]) + _distinct(share, sizes[~reads])
        for power in (1.0, *EXPONENTS)
    )
    return min(others) / own, max(others) / own


def _distinct(share: Floats, sizes: Floats) -> float:
    """Distinct experts of passes with so many rows, summed, each row by the ``share`` [layers,
    experts] that use each expert.
    """
    found = ((1 - (1 - share) ** size).sum() * times for size, times in _counted(sizes))
    return float(sum(found))


def _counted(sizes: Floats) -> zip[tuple[float, int]]:
    return zip(*(one.tolist() for one in np.unique(sizes, return_counts=True)), strict=True)


def _skewed(share: Floats, power: float) -> Floats:
    """``share`` [layers, experts] to a ``power``, for as many experts a token in each layer as
    before; no expert has more than all tokens.
    """
    weights, whole = share**power, share.sum(axis=1, keepdims=True)
    full = np.zeros(share.shape, dtype=bool)
    while True:
        free = np.where(full, 0, weights)
        rest = whole - full.sum(axis=1, keepdims=True)
        found = np.where(full, 1, free * rest / np.maximum(free.sum(axis=1, keepdims=True), 1e-300))
        if not (over := found > 1).any():
            return found
        full |= over
