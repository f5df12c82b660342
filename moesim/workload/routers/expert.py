"""The replica whose steps have used last what the prompt chooses most, unless loads are uneven."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.workload.routers.base import Router, Seen, least


class OfExperts(Router):
    """The replica that used last the experts that most choices of the prompt are for, unless loads
    are uneven.
    """

    kind: Literal["expert"] = "expert"
    reads_experts: ClassVar[bool] = True

    most_apart: int = Field(
        default=2,
        ge=0,
        description="Where more requests than this lie between the most and the fewest, "
        "the replica with the fewest gets it.",
    )

    def choose(self, seen: Seen, stream: Generator) -> int:
        """See ``Router``; of those with as much that with the fewest requests."""
        del stream
        loads = seen.outstanding
        if int(loads.max()) - int(loads.min()) > self.most_apart or seen.overlap is None:
            return least(loads)
        best = seen.overlap == seen.overlap.max()
        return least(np.where(best, loads, loads.max() + 1))
