"""How evenly a layer's experts are used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT, RoutingTrace


def expert_counts(trace: RoutingTrace, every: int = 1) -> NDArray[np.int64]:
    """int64[L, E]: how many tokens, of one in ``every``, use each expert of each MoE layer."""
    counts = np.empty((trace.moe_layers, trace.experts), dtype=np.int64)
    for layer in range(trace.moe_layers):
        ids = trace.expert_ids[::every, layer].ravel()
        counts[layer] = np.bincount(ids[ids != NO_EXPERT], minlength=trace.experts)
    return counts


def entropy_bits(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[L] Shannon entropy of the experts' shares in bits; log2(E) if all are used alike."""
    total = counts.sum(axis=-1, keepdims=True)
    share = counts / np.maximum(total, 1)
    logarithm = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(-(share * logarithm).sum(axis=-1))


def max_over_mean(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[L] load of the busiest expert over the mean load; 1 if all are used alike."""
    return np.asarray(counts.max(axis=1) / np.maximum(counts.mean(axis=1), 1e-300))


def coefficient_of_variation(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[L] standard deviation of the experts' loads (over all E, not E - 1) over their mean."""
    return np.asarray(counts.std(axis=1) / np.maximum(counts.mean(axis=1), 1e-300))
