"""How many of a token's experts the token before it used, too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT, RoutingTrace


def overlap_previous(trace: RoutingTrace) -> NDArray[np.float64]:
    """[L] share of expert uses that repeat the previous token of the same request.

    The first token of a request has none before it and is not counted; NaN if there are no pairs.
    """
    follows = np.diff(trace.request_id) == 0
    overlap = np.full(trace.moe_layers, np.nan)
    if not follows.any():
        return overlap
    for layer in range(trace.moe_layers):
        slots = np.ascontiguousarray(trace.expert_ids[:, layer].T)
        now, before = slots[:, 1:][:, follows], slots[:, :-1][:, follows]
        used = now != NO_EXPERT
        repeated = sum(int(((now == other) & used).sum()) for other in before)
        overlap[layer] = repeated / max(int(used.sum()), 1)
    return overlap


def overlap_shuffled(counts: NDArray[np.int64], tokens: int) -> NDArray[np.float64]:
    """[L] the overlap expected if ``tokens`` tokens with these expert counts [L, E] are shuffled.

    A use is of expert e with share c_e / sum(c), and any one of the other tokens uses e with
    probability (c_e - 1) / (tokens - 1).
    """
    pairs = (counts * (counts - 1)).sum(axis=1)
    uses = counts.sum(axis=1)
    return np.asarray(pairs / np.maximum(uses * max(tokens - 1, 1), 1))
