"""How a token's experts depend on those of the tokens before it in its request."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from moesim.config.params import Params
from moesim.trace.synthesis.rows import Floats, Rows, matrix

MOST_AGE = 1024
"""Older uses count as this old."""


class PowerLaw(Params):
    """An expert last used ``a`` tokens ago weighs 1 + strength a^-decay times as much."""

    kind: Literal["power_law"] = "power_law"
    strength: Annotated[float, Field(ge=0, le=1e6)]
    decay: Annotated[float, Field(ge=0)]

    def factors(self, layers: int) -> Floats:
        """[layers, MOST_AGE + 1] by age in tokens; at 0 of an expert not yet used."""
        ages = np.arange(1, MOST_AGE + 1, dtype=np.float64)
        row = np.concatenate(([1.0], 1 + self.strength * ages**-self.decay))
        return np.tile(row, (layers, 1))


class ByAge(Params):
    """The logarithm of the factor from each of the ``ages`` to the next, a row for each layer."""

    kind: Literal["by_age"] = "by_age"
    ages: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    log_factors: Rows

    def factors(self, layers: int) -> Floats:
        """[layers, MOST_AGE + 1] by age in tokens; at 0 of an expert not yet used."""
        bins = np.searchsorted(self.ages, np.arange(1, MOST_AGE + 1), side="right") - 1
        rows = np.exp(np.take(matrix(self.log_factors), np.maximum(bins, 0), axis=1))
        return np.concatenate((np.ones((layers, 1)), rows), axis=1)


class Stickiness(Params):
    """Each expert of the previous token stays with ``stay_probability``; the other choices are
    weighted by ``recency`` of the last use.
    """

    stay_probability: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)
    ] = (0.0,)
    recency: Annotated[PowerLaw | ByAge | None, Field(discriminator="kind")] = None
