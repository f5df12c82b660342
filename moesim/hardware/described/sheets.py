"""Files of one part of a machine: a GPU, a host, a link."""

from __future__ import annotations

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import JoulesPerByte
from moesim.hardware.described.datasheet import (
    Copies,
    Count,
    Fraction,
    GpuNumbers,
    GroupLatency,
    Rate,
)
from moesim.hardware.described.host import Host
from moesim.hardware.described.sourced import Sourced


class Link(Params):
    """What joins a GPU to its host."""

    pcie: Sourced[Rate] = Field(description="Raw bandwidth, one direction.")
    generation: Sourced[Count] | None = Field(None, description="Of PCIe; None: no PCIe.")
    lanes: Sourced[Count] | None = None
    copies: Copies
    link_energy: Sourced[JoulesPerByte] | None = Field(
        None, description="Of a byte that crosses it; None: a prior."
    )


class Reach(Params):
    """What collectives reach of what joins GPUs."""

    latency: Sourced[GroupLatency]
    all_to_all_fraction: Sourced[Fraction]


class Gpu(GpuNumbers):
    """A GPU apart from its machine."""

    nvlink: Sourced[Rate] | None = Field(
        None, description="What joins GPUs beside PCIe, one GPU and direction."
    )
    bridge: bool = Field(False, description="Whether 'nvlink' takes a bridge that is bought.")
    over_pcie: Reach
    over_nvlink: Reach
    host: Host | None = Field(
        None, description="The CPU that shares this GPU's memory: unified memory."
    )
    usual_host: str = Field(description="The host that it is assumed in where none is named.")
