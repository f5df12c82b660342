"""Domains of recorded requests, found by how they use the experts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.trace.synthesis.domains import Domains

Ints = NDArray[np.int64]


def domains_of(uses: Ints, most: int, seed: int) -> Ints:
    """int64[requests]: a domain 0 .. for each request with ``uses`` [requests, layers, experts].

    k-means of the square roots of the shares, at most ``most`` and one for ten requests; domains
    are numbered by falling number of requests.
    """
    from scipy.cluster.vq import kmeans2

    wanted = min(most, len(uses) // 10)
    if wanted <= 1:
        return np.zeros(len(uses), dtype=np.int64)
    share = uses / np.maximum(uses.sum(axis=2, keepdims=True), 1)
    points = np.sqrt(share).reshape(len(uses), -1)
    _, nearest = kmeans2(points, wanted, minit="++", iter=50, rng=np.random.default_rng(seed))
    present, label = np.unique(nearest, return_inverse=True)
    counts = np.bincount(label, minlength=len(present))
    rank = np.empty(len(present), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(present))
    return rank[label]


def order_of(domain: Ints) -> Domains:
    """Shares and persistence of the domains of successive requests."""
    counts = np.bincount(domain)
    share = counts / counts.sum()
    same = float((np.diff(domain) == 0).mean()) if len(domain) > 1 else 0.0
    chance = float((share**2).sum())
    kept = (same - chance) / (1 - chance) if chance < 1 else 0.0
    return Domains(
        names=tuple(f"domain{number}" for number in range(len(counts))),
        shares=tuple(round(float(value), 4) for value in share),
        persistence=round(max(kept, 0.0), 3),
    )
