"""The host of the GPUs, and how they hang on it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moesim.config.params import Params
from moesim.hardware.datasheet import Count, Fraction, Latency, Memory, Peak, Rate
from moesim.hardware.sourced import Sourced

Gpu = Annotated[int, Field(ge=0)]


class Host(Params):
    """Memory and cores of the machine."""

    memory: Sourced[Memory]
    numa_nodes: Sourced[Count]
    memory_bandwidth: Sourced[Rate] = Field(description="DRAM peak of one NUMA node.")
    memory_fraction: Sourced[Fraction] = Field(description="Share of the DRAM peak reached.")
    expert_fraction: Sourced[Fraction] | None = Field(
        None, description="Share of the DRAM peak that experts on the CPU reach; None: as above."
    )
    cores: Sourced[Count] = Field(description="Physical cores of the whole host.")
    layer_start: Sourced[Latency] | None = Field(
        None,
        description="Handing the experts of a layer to the cores, once a layer; None: a prior for"
        " each expert.",
    )
    core_rate: Sourced[Peak] | None = Field(
        None, description="Operations a second of a core that computes experts; None: a prior."
    )

    @property
    def node_bytes_per_second(self) -> int:
        """What one NUMA node's memory gives all its users together, both directions."""
        return int(self.memory_bandwidth.value * self.memory_fraction.value)

    @property
    def layer_start_ns(self) -> int:
        """The start of a layer's experts in whole nanoseconds."""
        return round(self.layer_start.value) if self.layer_start else 0

    @property
    def expert_bytes_per_second(self) -> int:
        """What experts that the CPU computes read of one NUMA node's memory."""
        fraction = self.expert_fraction or self.memory_fraction
        return int(self.memory_bandwidth.value * fraction.value)


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
