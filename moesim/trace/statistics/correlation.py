"""How much a token's experts in one layer say about its experts in the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import RoutingTrace

_CHUNK_PAIRS = 1 << 20


def joint_counts(trace: RoutingTrace, layer: int) -> NDArray[np.int64]:
    """int64[E, E]: tokens that use expert a in MoE layer ``layer`` and expert b in the next one."""
    places, top_k = trace.experts + 1, trace.top_k  # the last is that of no expert
    joint, tokens = np.zeros(places**2, np.int64), max(1, _CHUNK_PAIRS // top_k**2)
    for start in range(0, trace.tokens, tokens):
        ids = np.minimum(trace.expert_ids[start : start + tokens, layer : layer + 2], trace.experts)
        here, after = ids[:, 0, :, None].astype(np.int64), ids[:, 1, None]
        joint += np.bincount((here * places + after).ravel(), minlength=places**2)
    return joint.reshape(places, places)[:-1, :-1]


def mutual_information_bits(joint: NDArray[np.int64]) -> float:
    """Mutual information in bits of the two experts of a pair drawn from ``joint``.

    A pair is one of a token's k x k combinations of an expert here and an expert there. Counting
    adds about (E - 1)^2 / (2 n ln 2) bits, with n the number of pairs, to independent layers.
    """
    share = joint / max(int(joint.sum()), 1)
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    seen = share > 0
    return float((share[seen] * np.log2(share[seen] / expected[seen])).sum())


def cramers_v(joint: NDArray[np.int64]) -> float:
    """Cramer's V of the pairs in ``joint``: sqrt(chi^2 / (n (min(rows, columns) - 1))), 0 .. 1.

    Only experts that are used count as rows and columns; 0 if fewer than two are.
    """
    used = joint[joint.any(axis=1)][:, joint.any(axis=0)]
    freedom = min(used.shape) - 1
    if freedom < 1:
        return 0.0
    total = used.sum()
    expected = used.sum(axis=1, keepdims=True) * used.sum(axis=0, keepdims=True) / total
    return float(np.sqrt(((used - expected) ** 2 / expected).sum() / (total * freedom)))
