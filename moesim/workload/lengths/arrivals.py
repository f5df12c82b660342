"""Lengths that the file of arrivals says."""

from __future__ import annotations

from typing import Literal

from numpy.random import Generator

from moesim.config.errors import InputError
from moesim.workload.arrivals.base import Arrived
from moesim.workload.lengths.base import Lengths, Pair


class OfArrivals(Lengths):
    """Those in the file of arrivals."""

    kind: Literal["arrivals"] = "arrivals"

    def lengths(self, arrived: Arrived, stream: Generator, bound: Pair | None) -> Pair:
        """See ``Lengths``."""
        del stream, bound
        if arrived.input_tokens is None or arrived.output_tokens is None:
            what = "'arrivals' takes the lengths of a file, and these arrivals have none"
            raise InputError(f"workload.lengths: {what}; write trace, fixed or random")
        return arrived.input_tokens, arrived.output_tokens
