"""Lengths of benchmark clients: uniform about, or up to, a number."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from moesim.config.tokens import Tokens
from moesim.workload.arrivals.base import Arrived
from moesim.workload.lengths.base import Lengths, Pair


class Random(Lengths):
    """Uniform whole numbers, drawn for prompts and answers apart."""

    kind: Literal["random"] = "random"
    input_len: Tokens = Field(description="Tokens of a prompt.")
    output_len: Tokens = Field(description="Tokens of an answer.")
    range_ratio: float = Field(default=0.0, ge=0, le=1, description="r, see rule.")
    rule: Literal["vllm", "inferencex"] = Field(
        default="vllm",
        description="From (1 - r) n to (1 + r) n, as vLLM's client, or from r n to n, as "
        "InferenceX's.",
    )

    def lengths(self, arrived: Arrived, stream: Generator, bound: Pair | None) -> Pair:
        """Other lengths under the same seed meet the same luck, request by request."""
        del bound
        luck = stream.random((len(arrived.arrival_ns), 2))
        inputs, outputs = (
            low + np.floor(luck[:, k] * (high - low + 1)).astype(np.int64)
            for k, (low, high) in enumerate(map(self._range, (self.input_len, self.output_len)))
        )
        return inputs, outputs

    def _range(self, tokens: int) -> tuple[int, int]:
        """The least, at least 1, and the most."""
        ratio = self.range_ratio
        if self.rule == "vllm":
            low, high = math.floor(tokens * (1 - ratio)), math.ceil(tokens * (1 + ratio))
        else:
            low, high = math.floor(tokens * ratio), tokens
        return max(low, 1), high
