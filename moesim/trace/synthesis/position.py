"""How the experts of a request's tokens change from its first token to its last."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from moesim.config.params import Params
from moesim.trace.synthesis.rows import Floats, Matrices, matrix


class PositionEffect(Params):
    """Logarithms of factors of every expert, by the token's place among those of its part in its
    request: from each of ``from_tokens`` (the first is 0) to the next, a row for each layer.
    """

    from_tokens: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    log_factors: Matrices

    def factors(self) -> Floats:
        """[stages, layers, experts]."""
        return np.exp(np.stack([matrix(rows) for rows in self.log_factors]))
