"""All requests are as long."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.config.tokens import Tokens
from moesim.workload.arrivals.base import Arrived
from moesim.workload.lengths.base import Lengths, Pair


class Fixed(Lengths):
    """The same for every request."""

    kind: Literal["fixed"] = "fixed"
    input_len: Tokens = Field(description="Tokens of a prompt.")
    output_len: Tokens = Field(description="Tokens of an answer.")

    def lengths(self, arrived: Arrived, stream: Generator, bound: Pair | None) -> Pair:
        """See ``Lengths``."""
        del stream, bound
        count = len(arrived.arrival_ns)
        return np.full(count, self.input_len), np.full(count, self.output_len)
