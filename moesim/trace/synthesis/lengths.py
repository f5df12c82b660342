"""How many tokens of a phase a request has."""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from moesim.config.params import Params
from moesim.trace.synthesis.rows import MOST_NUMBER

Tokens = Annotated[int, Field(ge=0, le=1 << 29)]
"""The positions of three such phases are int32."""


class Fixed(Params):
    """The same number for all requests."""

    kind: Literal["fixed"] = "fixed"
    tokens: Tokens

    def at(self, level: float) -> int:
        """Tokens of the request at the quantile ``level``, 0 < level < 1."""
        return self.tokens


class Lognormal(Params):
    """Lognormal around a median, cut to ``least`` .. ``most``."""

    kind: Literal["lognormal"] = "lognormal"
    median_tokens: float = Field(gt=0, le=1 << 29)
    spread: float = Field(ge=0, le=MOST_NUMBER, description="Standard deviation of the logarithm.")
    least_tokens: Tokens = 1
    most_tokens: Tokens

    def at(self, level: float) -> int:
        """Tokens of the request at the quantile ``level``, 0 < level < 1."""
        drawn = self.median_tokens * np.exp(self.spread * NormalDist().inv_cdf(level))
        return round(float(np.clip(drawn, self.least_tokens, self.most_tokens)))


class Quantiles(Params):
    """Evenly spaced quantiles from the smallest to the largest, linear between."""

    kind: Literal["quantiles"] = "quantiles"
    tokens: Annotated[tuple[Tokens, ...], Field(min_length=2)]

    def at(self, level: float) -> int:
        """Tokens of the request at the quantile ``level``, 0 < level < 1."""
        place = level * (len(self.tokens) - 1)
        return round(float(np.interp(place, np.arange(len(self.tokens)), self.tokens)))


Lengths = Annotated[Fixed | Lognormal | Quantiles, Field(discriminator="kind")]
