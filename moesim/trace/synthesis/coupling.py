"""How an expert depends on others of the same token: of its layer, and of the layer before."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.config.params import Params
from moesim.trace.synthesis.rows import Experts, Floats, Matrices, matrix

Factor = Annotated[float, Field(gt=0, le=1e6)]


class Groups(Params):
    """Experts of a layer in random groups of ``size``: a chosen one multiplies the weights of its
    group by ``factor``.
    """

    kind: Literal["groups"] = "groups"
    size: Annotated[Experts, Field(ge=2)]
    factor: Factor

    def factors(self, layers: int, experts: int, generator: Generator) -> Floats:
        """[layers, chosen expert, other expert]."""
        group = generator.permuted(np.tile(np.arange(experts) // self.size, (layers, 1)), axis=1)
        same = group[:, :, None] == group[:, None, :]
        return np.where(same, self.factor, 1.0)


class Successors(Params):
    """Every expert has ``count`` random successors in the next layer, whose weights it multiplies
    by ``factor``.
    """

    kind: Literal["successors"] = "successors"
    count: Experts = 1
    factor: Factor

    def factors(self, layers: int, experts: int, generator: Generator) -> Floats:
        """[layers, expert of the layer before, expert]; the first layer's are 1."""
        factors = np.ones((layers, experts, experts))
        for layer in range(1, layers):
            for _ in range(self.count):
                factors[layer, np.arange(experts), generator.permutation(experts)] = self.factor
        return factors


class ExplicitPairs(Params):
    """The logarithms of the factors: for each layer (``between_layers``: from the second on) a row
    for each given expert with a number for each expert that it weighs.
    """

    kind: Literal["explicit"] = "explicit"
    log_factors: Matrices

    def factors(self, layers: int, experts: int, generator: Generator) -> Floats:
        """[layers, given expert, expert]; 1 for a first layer that is left out."""
        given = np.exp(np.stack([matrix(rows) for rows in self.log_factors]))
        left_out = np.ones((layers - len(given), experts, experts))
        return np.concatenate((left_out, given))


WithinToken = Annotated[Groups | ExplicitPairs, Field(discriminator="kind")]
BetweenLayers = Annotated[Successors | ExplicitPairs, Field(discriminator="kind")]
