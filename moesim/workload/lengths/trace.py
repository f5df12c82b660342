"""Lengths as recorded."""

from __future__ import annotations

from typing import ClassVar, Literal

from numpy.random import Generator

from moesim.workload.arrivals.base import Arrived
from moesim.workload.lengths.base import Lengths, Pair


class Trace(Lengths):
    """Those of the trace's request that a request takes its routing from."""

    kind: Literal["trace"] = "trace"
    of_trace: ClassVar[bool] = True

    def lengths(self, arrived: Arrived, stream: Generator, bound: Pair | None) -> Pair:
        """See ``Lengths``."""
        del arrived, stream
        assert bound is not None, "the trace's requests are chosen first"
        return bound
