"""The network between nodes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.amounts.dimensions import NETWORK_RATE
from moesim.config.params import Params
from moesim.config.units import NetworkRate, within
from moesim.hardware.described.datasheet import Count, Fraction, GroupLatency
from moesim.hardware.described.sourced import Sourced

CardRate = Annotated[NetworkRate, within("1 MB/s", "100 TB/s", NETWORK_RATE)]


class RankLatency(Sourced[GroupLatency]):
    """The latency of an all-to-all of ``gpus`` GPUs on several nodes."""

    gpus: Count


class Network(Params):
    """A node's network cards for GPU traffic. A node's GPUs share them evenly, neighbours the same
    card; with a card or more for each, every GPU has one of its own.
    """

    nics: Sourced[Count] = Field(description="Cards a node.")
    bandwidth: Sourced[CardRate] = Field(description="One card, one direction.")
    all_to_all_fraction: Sourced[Fraction] = Field(description="Share that an all-to-all reaches.")
    latency: Annotated[tuple[RankLatency, ...], Field(strict=False, min_length=1)] = Field(
        description="Latency of an all-to-all by the number of GPUs, ascending."
    )

    @model_validator(mode="after")
    def _ascends(self) -> Network:
        gpus = [point.gpus for point in self.latency]
        times = [point.value for point in self.latency]
        if gpus != sorted(set(gpus)) or times != sorted(times):
            raise ValueError("'latency' does not ascend: more GPUs, no less time")
        return self

    @property
    def bytes_per_second(self) -> int:
        """Bytes a second that one card sends and, at once, receives in an all-to-all."""
        return max(1, int(self.bandwidth.value * self.all_to_all_fraction.value))

    def card_of(self, gpus: int) -> NDArray[np.int64]:
        """The card of each of a node's ``gpus``, int64[gpus]."""
        return np.arange(gpus) * min(self.nics.value, gpus) // gpus

    def latency_ns(self, gpus: int, node: int, node_ns: float) -> float:
        """Latency of an all-to-all of ``gpus``, ``node`` on each node, at least ``node_ns``, that
        of one node: between known numbers linear, beyond the last as before it.
        """
        known = [(point.gpus, max(point.value, node_ns)) for point in self.latency]
        points = [(node, node_ns), *(point for point in known if point[0] > node)]
        ranks, times = zip(*points, strict=True)
        if gpus <= ranks[-1]:
            return float(np.interp(gpus, ranks, times))
        last = (points if len(points) > 1 else known)[-2:]
        (fewer, less), (more, most) = last[0], last[-1]
        slope = (most - less) / (more - fewer) if more > fewer else 0.0
        return float(times[-1] + slope * (gpus - ranks[-1]))
