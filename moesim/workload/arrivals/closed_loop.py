"""So many requests are in flight, and each end brings the next, as with ``--max-concurrency``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.config.units import Duration, RequestsPerSecond
from moesim.workload.arrivals.base import SECOND, Arrivals, Arrived, check_latest, whole
from moesim.workload.serving.state import NEVER


class ClosedLoop(Arrivals):
    """Some clients, each of which sends its next request when it has its answer."""

    kind: Literal["closed_loop"] = "closed_loop"
    max_concurrency: int = Field(ge=1, description="Clients, each with one request in flight.")
    think_time: Duration = Field(
        default=0.0, description="From an answer's end to the client's next request."
    )
    request_rate: Annotated[RequestsPerSecond, Field(gt=0)] | None = Field(
        default=None,
        description="At which the clients send their first requests; by default all at the start.",
    )

    @property
    def clockless(self) -> bool:  # type: ignore[override]
        """See ``Arrivals``."""
        return not self.think_time and self.request_rate is None

    @property
    def concurrency(self) -> int | None:
        """See ``Arrivals``."""
        return self.max_concurrency

    @property
    def think_ns(self) -> int:
        """See ``Arrivals``."""
        return round(self.think_time)

    def arrive(self, count: int, stream: Generator, folders: Sequence[Path]) -> Arrived:
        """The first of each client; all others follow ends."""
        del folders
        check_latest(self.think_ns * count)
        instants = np.full(count, NEVER)
        first = min(count, self.max_concurrency)
        instants[:first] = 0
        if self.request_rate is not None:
            gaps = stream.exponential(1.0, first)
            with np.errstate(over="ignore"):  # what is too late is told
                instants[:first] = whole(np.cumsum(gaps) / self.request_rate * SECOND)
        return Arrived(instants)
