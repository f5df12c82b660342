"""Gaps between requests are drawn from a gamma distribution, as ``vllm bench serve`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.errors import InputError, Problem
from moesim.config.units import RequestsPerSecond
from moesim.workload.arrivals.base import SECOND, Arrivals, Arrived, whole

Floats = NDArray[np.float64]
Rate = Annotated[RequestsPerSecond, Field(gt=0)]


class Drawn(Arrivals):
    """Gaps by a gamma distribution of some shape."""

    request_rate: Rate = Field(description="Requests that come in a second, on average.")
    rescale: bool = Field(
        default=True,
        description="Gaps are scaled so that the last request comes when so many are due, as vLLM "
        "does; not with ramp_up.",
    )
    ramp_up: Literal["linear", "exponential"] | None = Field(
        default=None, description="How the rate goes from request_rate to ramp_up_to."
    )
    ramp_up_to: Rate | None = Field(default=None, description="The rate of the last request.")

    @model_validator(mode="after")
    def _both(self) -> Drawn:
        if (self.ramp_up is None) != (self.ramp_up_to is None):
            what = "a ramp has a shape and an end; write both, as in"
            raise ValueError(f"{what} ramp_up: linear, ramp_up_to: 8 requests/s")
        return self

    @property
    def shape(self) -> float:
        """Of the gamma distribution; 1: exponential."""
        return 1.0

    def arrive(self, count: int, stream: Generator, folders: Sequence[Path]) -> Arrived:
        """Gaps are drawn at unit rate and divided by the rate: other rates meet the same luck."""
        del folders
        gaps = stream.gamma(self.shape, 1 / self.shape, count)
        if not gaps.any():
            what = f"with so small a shape all {count:,} gaps are 0; write a larger burstiness"
            raise InputError([Problem("", "workload.arrivals", what)])
        with np.errstate(over="ignore", invalid="ignore"):  # what is too late is told
            instants = np.cumsum(gaps / self._rates(count))
            if self.rescale and self.ramp_up is None:
                instants *= count / self.request_rate / instants[-1]
            return Arrived(whole(instants * SECOND))

    def _rates(self, count: int) -> Floats:
        """Of each gap, in requests a second."""
        first, last = self.request_rate, self.ramp_up_to or self.request_rate
        progress = np.arange(count) / max(count - 1, 1)
        if self.ramp_up == "exponential":
            return np.asarray(first * (last / first) ** progress, np.float64)
        return np.asarray(first + (last - first) * progress, np.float64)


class Gamma(Drawn):
    """Gamma gaps: a burstiness below 1 makes bursts, above 1 an even flow."""

    kind: Literal["gamma"] = "gamma"
    burstiness: float = Field(
        default=1.0,
        gt=0,
        description="The gaps' shape; their standard deviation over their mean is 1 over its "
        "square root. 1 is poisson.",
    )

    @property
    def shape(self) -> float:
        """See above."""
        return self.burstiness
