"""How often each expert is chosen, before everything that depends on the token."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.config.params import Params
from moesim.trace.synthesis.rows import Experts, Floats, PerLayer, Rows, matrix, per_layer

Share = Annotated[float, Field(ge=0, le=1)]


class Zipf(Params):
    """Weights rank^-exponent, the ranks dealt to the experts of each layer at random.

    ``run`` successive ranks go to neighbouring ids: contiguous placement puts them on one GPU. The
    last ranks, a share ``never_used``, get 0.
    """

    kind: Literal["zipf"] = "zipf"
    exponent: PerLayer
    run: Experts = 1
    never_used: Share = 0.0

    def weights(self, layers: int, experts: int, generator: Generator) -> Floats:
        """[layers, experts], each layer's sum 1."""
        exponents = per_layer(self.exponent, layers)[:, None]
        ranked = np.arange(1, experts + 1, dtype=np.float64)[None, :] ** -exponents
        ranked[:, experts - round(self.never_used * experts) :] = 0
        run = np.arange(experts) // self.run
        place = [
            np.argsort(generator.permutation(run[-1] + 1)[run], kind="stable")
            for _ in range(layers)
        ]
        ranked = np.take_along_axis(np.broadcast_to(ranked, (layers, experts)), np.array(place), 1)
        return np.asarray(ranked / ranked.sum(axis=1, keepdims=True))


class Dirichlet(Params):
    """Weights of each layer from a symmetric Dirichlet distribution: the smaller
    ``concentration``, the more uneven. A random share ``never_used`` of the experts gets 0.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    concentration: Annotated[float, Field(gt=0)]
    never_used: Share = 0.0

    def weights(self, layers: int, experts: int, generator: Generator) -> Floats:
        """[layers, experts], each layer's sum 1."""
        drawn = generator.standard_gamma(self.concentration, (layers, experts))
        drawn = np.maximum(drawn, np.finfo(np.float64).tiny)
        drawn[:, experts - round(self.never_used * experts) :] = 0
        drawn = generator.permuted(drawn, axis=1)
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


class Explicit(Params):
    """A row of weights for each layer, 0 for an expert that is never used."""

    kind: Literal["explicit"] = "explicit"
    weights_by_layer: Rows

    def weights(self, layers: int, experts: int, generator: Generator) -> Floats:
        """[layers, experts], each layer's sum 1."""
        given = matrix(self.weights_by_layer)
        return np.asarray(given / given.sum(axis=1, keepdims=True))


Popularity = Annotated[Zipf | Dirichlet | Explicit, Field(discriminator="kind")]
