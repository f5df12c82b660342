"""What requests are about: domains, each with its own popularity of the experts."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.config.params import Params
from moesim.trace.synthesis.popularity import Share
from moesim.trace.synthesis.rows import MOST_NUMBER, Floats, PerLayer, Rows, matrix, per_layer

Positive = Annotated[float, Field(gt=0, le=1e9)]


class Domains(Params):
    """The domains of a trace and their order.

    A request keeps the domain of the request before it with probability ``persistence``, else it
    draws one by ``shares``. Its popularity is ``purity`` times its domain's plus the rest times
    the mean of all domains. ``sharpness`` is the power to which a domain raises the popularity:
    above 1 it uses fewer experts.
    """

    names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    shares: tuple[Positive, ...]
    sharpness: tuple[Annotated[float, Field(gt=0, le=MOST_NUMBER)], ...] = ()
    persistence: Share = 0.0
    purity: Share = 1.0

    def share(self) -> Floats:
        """[domains], sum 1."""
        return np.asarray(self.shares) / sum(self.shares)


ONE_DOMAIN = Domains(names=("all",), shares=(1.0,))


class LognormalEffect(Params):
    """Every domain multiplies every weight by a lognormal factor of its own."""

    kind: Literal["lognormal"] = "lognormal"
    spread: PerLayer

    def factors(
        self, names: tuple[str, ...], layers: int, experts: int, generator: Generator
    ) -> Floats:
        """[domains, layers, experts]."""
        drawn = generator.standard_normal((len(names), layers, experts))
        return np.exp(drawn * per_layer(self.spread, layers)[None, :, None])


class SubsetEffect(Params):
    """Every domain uses a random ``share`` of the experts, the others ``rest`` times as much."""

    kind: Literal["subset"] = "subset"
    share: Share
    rest: Share = 0.0

    def factors(
        self, names: tuple[str, ...], layers: int, experts: int, generator: Generator
    ) -> Floats:
        """[domains, layers, experts]."""
        factors = np.full((len(names), layers, experts), self.rest)
        factors[:, :, : max(1, round(self.share * experts))] = 1
        return generator.permuted(factors, axis=2)


class ExplicitEffect(Params):
    """The logarithm of every factor: for each domain a row for each layer."""

    kind: Literal["explicit"] = "explicit"
    log_factors: dict[str, Rows]

    def factors(
        self, names: tuple[str, ...], layers: int, experts: int, generator: Generator
    ) -> Floats:
        """[domains, layers, experts]."""
        return np.exp(np.stack([matrix(self.log_factors[name]) for name in names]))


DomainEffect = Annotated[
    LognormalEffect | SubsetEffect | ExplicitEffect, Field(discriminator="kind")
]
