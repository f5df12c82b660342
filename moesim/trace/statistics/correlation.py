"""How much a token's experts in one layer say about its experts in the next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import RoutingTrace

_CHUNK_TOKENS = 1 << 15


def joint_counts(trace: RoutingTrace, layer: int) -> NDArray[np.int64]:
    """int64[E, E]: tokens that use expert a in MoE layer ``layer`` and expert b in the next one."""
    joint = np.zeros((trace.experts, trace.experts), dtype=np.int64)
    for here, after in _uses(trace, layer):
        joint += np.rint(here.T @ after).astype(np.int64)
    return joint


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


def _uses(
    trace: RoutingTrace, layer: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """0/1 matrices [tokens, E] of ``layer`` and the next; exact in float32 for a chunk."""
    for start in range(0, trace.tokens, _CHUNK_TOKENS):
        rows = trace.expert_ids[start : start + _CHUNK_TOKENS]
        yield _matrix(rows[:, layer], trace.experts), _matrix(rows[:, layer + 1], trace.experts)


def _matrix(ids: NDArray[np.uint16], experts: int) -> NDArray[np.float32]:
    used = np.zeros((len(ids), experts + 1), dtype=np.float32)
    used[np.arange(len(ids))[:, None], np.minimum(ids, experts)] = 1
    return np.ascontiguousarray(used[:, :experts])
