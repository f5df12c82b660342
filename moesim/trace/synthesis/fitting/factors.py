"""The factors of a part while they are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.trace.synthesis.fitting.ages import AGES, BIN_OF_AGE, STARTS
from moesim.trace.synthesis.fitting.moments import Ints, Moments
from moesim.trace.synthesis.rows import Floats
from moesim.trace.synthesis.tables import Tables

MOST_LOG = 12.0
"""No factor leaves e^-12 .. e^12, whatever a thin trace suggests."""


@dataclass(eq=False)
class Factors:
    """Logarithms of the factors of a part.

    ``popularity`` [layers, experts], of experts that ``used`` says are used; ``domain`` [domains,
    layers, experts]; ``request`` [requests, layers, experts], of the recorded requests;
    ``position`` [stages, layers, experts]; ``recency`` [layers, age bins + 1], 0 for experts not
    yet used; ``between`` and ``within`` [layers, experts, experts]; ``spread`` [layers], the
    standard deviation of a request's factors.
    """

    used: NDArray[np.bool_]
    popularity: Floats
    domain: Floats
    request: Floats
    position: Floats
    recency: Floats
    between: Floats
    within: Floats
    spread: Floats

    def base(self, domain: int, request: int | None = None) -> Floats:
        """[layers, experts] weights of a domain, with those of a recorded request."""
        log = self.popularity + self.domain[domain]
        if request is not None:
            log = log + self.request[request]
        return np.where(self.used, np.exp(log), 0.0)

    def tables(self) -> Tables:
        """What to draw new requests from."""
        by_age = np.exp(np.take(self.recency, BIN_OF_AGE, axis=1))
        by_age[:, 0] = np.exp(self.recency[:, -1])
        return Tables(
            np.stack([self.base(domain) for domain in range(len(self.domain))]),
            np.exp(self.position),
            np.array(STARTS),
            self.spread,
            np.zeros_like(self.spread),
            by_age,
            np.exp(self.between),
            np.exp(self.within),
        )

    def limit(self) -> None:
        """Keep all factors in bounds, and those of experts not yet used at 1."""
        self.recency -= self.recency[:, -1:]
        effects = self.popularity, self.domain, self.request, self.position
        for values in (*effects, self.recency, self.between, self.within):
            np.clip(values, -MOST_LOG, MOST_LOG, out=values)


def initial(wanted: Moments, domain: Ints) -> Factors:
    """Popularity as counted, nothing else."""
    requests, layers, experts = wanted.uses.shape
    total = wanted.uses.sum(axis=0)
    share = (total + 0.5) / (total.sum(axis=1, keepdims=True) + 0.5 * experts)
    pairs = (layers, experts, experts)
    return Factors(
        total > 0,
        np.log(share),
        np.zeros((int(domain.max()) + 1, layers, experts)),
        np.zeros((requests, layers, experts)),
        np.zeros((len(STARTS), layers, experts)),
        np.zeros((layers, len(AGES) + 1)),
        np.zeros(pairs),
        np.zeros(pairs),
        np.full(layers, 0.3),
    )
