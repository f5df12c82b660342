"""What lies below host memory: a drive, or memory behind a slower link."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moesim.config.amounts.dimensions import DURATION
from moesim.config.params import Params
from moesim.config.units import Duration, within
from moesim.hardware.described.datasheet import Count, Memory, Power, Rate
from moesim.hardware.described.sourced import Sourced

ReadLatency = Annotated[Duration, within("0 us", "1 s", DURATION)]


class Storage(Params):
    """A drive as experts are read from it, in large requests."""

    capacity: Sourced[Memory]
    bandwidth: Sourced[Rate] = Field(description="What many requests in flight reach together.")
    latency: Sourced[ReadLatency] = Field(description="Of a request, before its first byte.")
    in_flight: Sourced[Count] = Field(description="Requests that are served at a time.")
    mapped_bandwidth: Sourced[Rate] | None = Field(
        None, description="What page faults of a mapped file reach; None: not known."
    )
    read_ahead: Sourced[Memory] | None = Field(
        None,
        description="What the system reads at a time around a page fault (Linux: read_ahead_kb);"
        " None: nothing more than what is asked for.",
    )
    power: Sourced[Power] | None = Field(None, description="While it reads.")
    idle_power: Sourced[Power] | None = Field(None, description="While it does not; None: a prior.")
