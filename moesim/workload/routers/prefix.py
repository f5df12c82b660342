"""The replica that has most of the prompt cached, unless loads are uneven (SGLang's router, from
memory).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.workload.routers.base import Router, Seen, least


class OfPrefix(Router):
    """The replica that has most of the prompt cached, unless loads are uneven."""

    kind: Literal["prefix"] = "prefix"
    reads_prefixes: ClassVar[bool] = True

    balance_abs_threshold: int = Field(
        default=32,
        ge=0,
        description="Loads are uneven where more requests than this lie between the most and the "
        "fewest, and ...",
    )
    balance_rel_threshold: float = Field(
        default=1.1, ge=1, description="... the most are more than so many times the fewest."
    )

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``; of those with as much that with the fewest requests."""
        del stream
        loads = seen.outstanding
        most, fewest = int(loads.max()), int(loads.min())
        apart = most - fewest > self.balance_abs_threshold
        if apart and most > self.balance_rel_threshold * fewest:
            return least(loads)
        best = seen.cached == seen.cached.max()
        return least(np.where(best, loads, most + 1))
