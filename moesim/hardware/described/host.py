"""The host of the GPUs, and how they hang on it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from moesim.config.amounts.dimensions import BANDWIDTH, CLOCK, PERCENT, format_percent
from moesim.config.params import Params
from moesim.config.units import Bandwidth, Hertz, Percent, WattsPerByte, within
from moesim.hardware.described.datasheet import Count, Fraction, Latency, Memory, Peak, Power, Rate
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.described.storage import Storage

Gpu = Annotated[int, Field(ge=0)]
Share = Annotated[Percent, within("0 %", "100 %", PERCENT)]
Clock = Annotated[Hertz, within("100 MHz", "10 GHz", CLOCK)]
ThreadRate = Annotated[Bandwidth, within("100 MB/s", "1 TB/s", BANDWIDTH)]
THREAD_READS = 32e9
"""Bytes a second, prior: as two threads of a Ryzen 9 7950X each read of a dense model in bf16 that
they decode with, or more (ik_llama.cpp's discussion 164). Servers have one of their own.
"""
LAYER_START_NS = 8_000
"""Prior, handing a layer's experts to the threads and back: a Ryzen 9 7950X takes 48.7 us for one
of 2.86 MB and 40.3 us for each further one (everett6/moe-prefetch x2_cpu_expert_cost, 16 threads).
"""


class ExpertShare(Sourced[Fraction]):
    """A share of the DRAM peak; of one that was fitted to a run, the ``trace`` and its experts a
    token that stood for that run.
    """

    trace: str | None = Field(None, description="The trace that a fitted share was found with.")
    experts_per_token: Count | None = Field(None, description="Experts a token of that trace.")

    @classmethod
    def of(cls, share: float, source: str, **more: Any) -> ExpertShare:
        """The ``share``, from 0 to 1."""
        return cls.model_validate({"value": format_percent(share), "source": source, **more})


class Host(Params):
    """Memory and cores of the machine."""

    memory: Sourced[Memory]
    numa_nodes: Sourced[Count]
    memory_bandwidth: Sourced[Rate] = Field(description="DRAM peak of one NUMA node.")
    memory_fraction: Sourced[Fraction] = Field(description="Share of the DRAM peak reached.")
    expert_fraction: ExpertShare | None = Field(
        None, description="Share of the DRAM peak that experts on the CPU reach; None: as above."
    )
    remote_node_fraction: Sourced[Share] | None = Field(
        None,
        description="What each other NUMA node adds to the memory and the cores of a GPU's own, as"
        " a share of its own, where experts lie on all nodes; None: they lie on one.",
    )
    cores: Sourced[Count] = Field(description="Physical cores of the whole host.")
    threads: Sourced[Count] | None = Field(
        None,
        description="Threads of the whole host that compute experts, more than cores count as the"
        " cores; None: the cores of the nodes where the experts lie.",
    )
    thread_bandwidth: Sourced[ThreadRate] | None = Field(
        None,
        description="What a thread reads a second by itself, beside which it computes; None: a"
        " prior.",
    )
    staging: Sourced[ThreadRate] | None = Field(
        None,
        description="The most bytes a second that a copy from or to pageable memory moves, which a"
        " thread stages; None: as many as the link's profile has.",
    )
    layer_start: Sourced[Latency] | None = Field(
        None,
        description="Handing the experts of a layer to the cores, once a layer, where the software"
        " says nothing of its threads; None: a prior.",
    )
    core_clock: Sourced[Clock] | None = Field(
        None, description="Clock of the cores while all of them compute; None: a prior."
    )
    vectors: Sourced[Literal["avx2", "avx512"]] | None = Field(
        None,
        description="The widest instructions of products: AVX2, or AVX-512 with VNNI; None: those"
        " that the software's numbers are of.",
    )
    core_rate: Sourced[Peak] | None = Field(
        None,
        description="Operations a second of a core that computes experts, in any format; None: what"
        " the software's kernels do in a cycle of 'core_clock', else a prior.",
    )
    power: Sourced[Power] | None = Field(
        None, description="Of all its CPU packages while they compute experts: their TDP."
    )
    idle_power: Sourced[Power] | None = Field(
        None, description="Of all its CPU packages while they do not; None: a prior."
    )
    memory_power: Sourced[WattsPerByte] | None = Field(
        None, description="Of memory, used or not; None: a prior."
    )
    storage: Storage | None = Field(None, description="What experts are read from into memory.")

    @property
    def node_bytes_per_second(self) -> int:
        """What one NUMA node's memory gives all its users together, both directions."""
        return int(self.memory_bandwidth.value * self.memory_fraction.value)

    @property
    def layer_start_ns(self) -> int:
        """The start of a layer's experts in whole nanoseconds."""
        return round(self.layer_start.value) if self.layer_start else LAYER_START_NS

    @property
    def expert_nodes(self) -> float:
        """NUMA nodes whose memory and cores the experts of one GPU have."""
        remote = self.remote_node_fraction
        return 1.0 + (self.numa_nodes.value - 1) * (remote.value if remote else 0.0)

    @property
    def expert_threads(self) -> float:
        """Threads, one a core at most, that compute the experts of one NUMA node."""
        if self.threads is not None:
            return float(min(self.threads.value, self.cores.value))
        return self.cores.value / self.numa_nodes.value * self.expert_nodes

    @property
    def expert_peak(self) -> float:
        """DRAM peak of the nodes where the experts of one GPU lie."""
        return self.memory_bandwidth.value * self.expert_nodes

    @property
    def thread_bytes_per_second(self) -> float:
        """What a thread reads while it does nothing else."""
        return float(self.thread_bandwidth.value) if self.thread_bandwidth else THREAD_READS

    @property
    def expert_share(self) -> ExpertShare | Sourced[Fraction]:
        """The share of the DRAM peak that experts on the CPU reach."""
        return self.expert_fraction or self.memory_fraction

    @property
    def expert_bytes_per_second(self) -> int:
        """The most that experts on the CPU read of the memory where they lie: threads that
        compute nothing.
        """
        reached = self.expert_peak * self.expert_share.value
        return int(min(reached, self.expert_threads * self.thread_bytes_per_second))


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
