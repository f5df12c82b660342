"""The host of the GPUs, and how they hang on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moesim.config.params import Params
from moesim.hardware.datasheet import Count, Fraction, Memory, Rate
from moesim.hardware.sourced import Sourced

Gpu = Annotated[int, Field(ge=0)]


class Host(Params):
    """Memory and cores of the machine."""

    memory: Sourced[Memory]
    numa_nodes: Sourced[Count]
    memory_bandwidth: Sourced[Rate] = Field(description="DRAM peak of one NUMA node.")
    memory_fraction: Sourced[Fraction] = Field(description="Share of the DRAM peak reached.")
    cores: Sourced[Count] = Field(description="Physical cores of the whole host.")

    @property
    def node_bytes_per_second(self) -> int:
        """What one NUMA node's memory gives all its users together, both directions."""
        return int(self.memory_bandwidth.value * self.memory_fraction.value)


class Switch(Params):
    """GPUs behind one PCIe switch, and the switch's link to the host (each direction)."""

    gpus: tuple[Gpu, ...] = Field(min_length=1)
    uplink: Sourced[Rate]


class Topology(Params):
    """Which GPUs share what.

    ``numa``: the GPUs of each NUMA node, each GPU once. A GPU behind no switch has its own root
    port. ``source`` names where the wiring is drawn.
    """

    source: str
    numa: tuple[tuple[Gpu, ...], ...] = Field(min_length=1)
    switches: tuple[Switch, ...] = ()

    @property
    def gpus(self) -> tuple[int, ...]:
        """All GPUs of the node, ascending."""
        return tuple(sorted(gpu for node in self.numa for gpu in node))

    def numa_of(self, gpu: int) -> int:
        """The NUMA node of ``gpu``."""
        return next(node for node, gpus in enumerate(self.numa) if gpu in gpus)

    def switch_of(self, gpu: int) -> int | None:
        """The switch above ``gpu``, None where it has its own root port."""
        found = (index for index, switch in enumerate(self.switches) if gpu in switch.gpus)
        return next(found, None)
