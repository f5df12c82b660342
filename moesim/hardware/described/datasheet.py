"""What a datasheet, or a prior where it is silent, says about one GPU."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moesim.config.amounts.dimensions import BANDWIDTH, BYTES, DURATION, PERCENT, POWER
from moesim.config.params import Params
from moesim.config.units import (
    Bandwidth,
    Bytes,
    ComputeRate,
    Duration,
    JoulesPerByte,
    Percent,
    Watts,
    within,
)
from moesim.hardware.described.sourced import Sourced

Direction = Literal["h2d", "d2h"]
Memory = Annotated[Bytes, Field(gt=0), within("1 B", "1 PB", BYTES)]
Rate = Annotated[Bandwidth, within("1 MB/s", "100 TB/s", BANDWIDTH)]
Peak = Annotated[ComputeRate, Field(ge=1)]
Fraction = Annotated[Percent, within("0.1 %", "100 %", PERCENT)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Capability = Annotated[float, Field(ge=1, lt=100)]
VOLTA, AMPERE = 7.0, 8.0
"""Compute capabilities: the first with matrix units, and the first that fits of kernels are of."""
Latency = Annotated[Duration, within("0 us", "1 ms", DURATION)]
"""Of one kernel or one copy."""
GroupLatency = Annotated[Duration, within("0 us", "100 ms", DURATION)]
"""Of a collective."""
USUAL_LANES = 128
Power = Annotated[Watts, within("0 W", "100 kW", POWER)]


class Compute(Params):
    """Dense peak rates (no sparsity) with fp32 accumulation where the datasheet tells it apart.

    fp16 to fp4 and int8 are tensor-core rates; a format without units is left out, and
    ``precision`` says what stands in for it. fp32 is the rate of the plain units.
    """

    fp32: Sourced[Peak]
    fp16: Sourced[Peak]
    bf16: Sourced[Peak] | None = None
    fp8: Sourced[Peak] | None = None
    fp4: Sourced[Peak] | None = None
    int8: Sourced[Peak] | None = None


class Copy(Params):
    """One kind of copy: ``latency`` + bytes / ``bandwidth``."""

    latency: Sourced[Latency]
    bandwidth: Sourced[Rate]

    @property
    def latency_ns(self) -> int:
        """The latency in whole nanoseconds."""
        return round(self.latency.value)

    @property
    def bytes_per_second(self) -> int:
        """The bandwidth in whole bytes a second."""
        return int(self.bandwidth.value)


class HostMemoryCopies(Params):
    """Copies of one direction by the kind of host memory."""

    pinned: Copy
    pageable: Copy


class Copies(Params):
    """Copies between host and GPU; one GPU alone on its root port."""

    h2d: HostMemoryCopies
    d2h: HostMemoryCopies


class Peers(Params):
    """GPU to GPU: the bandwidth of one GPU and direction, and what an all-to-all reaches of it."""

    kind: Literal["nvlink", "pcie"]
    latency: Sourced[GroupLatency] = Field(description="The latency of one all-to-all.")
    bandwidth: Sourced[Rate]
    all_to_all_fraction: Sourced[Fraction]
    all_reduce_latency: Sourced[GroupLatency] | None = Field(
        None, description="The latency of one all-reduce; None: as of an all-to-all."
    )
    all_reduce_fraction: Sourced[Fraction] | None = Field(
        None, description="What a ring reaches of the bandwidth; None: what an all-to-all does."
    )

    @property
    def all_to_all_bytes_per_second(self) -> int:
        """Bytes a second that one GPU sends and, at once, receives in an all-to-all."""
        return max(1, int(self.bandwidth.value * self.all_to_all_fraction.value))

    @property
    def all_reduce_bytes_per_second(self) -> int:
        """Bytes a second that one GPU sends and, at once, receives in an all-reduce."""
        fraction = self.all_reduce_fraction or self.all_to_all_fraction
        return max(1, int(self.bandwidth.value * fraction.value))

    @property
    def all_reduce_latency_ns(self) -> int:
        """The latency of an all-reduce in whole nanoseconds."""
        return round((self.all_reduce_latency or self.latency).value)


class GpuNumbers(Params):
    """One GPU, whatever it hangs on; priors (``..._fraction``, ``kernel_start``) are what fits
    replace.
    """

    memory: Sourced[Memory] = Field(description="Device memory, as in '8 GiB'.")
    context_reserve: Sourced[Bytes] = Field(description="What driver and CUDA context take.")
    memory_bandwidth: Sourced[Rate]
    l2: Sourced[Memory] = Field(description="Level-2 cache.")
    multiprocessors: Sourced[Count]
    lanes: Sourced[Count] | None = Field(
        None,
        description="fp32 units of a multiprocessor; None: 128, as most have (64: V100, A100,"
        " Turing, AMD's before RDNA 3).",
    )
    kernel_start: Sourced[Latency] = Field(description="Time of a kernel that does nothing.")
    bandwidth_fraction: Sourced[Fraction] = Field(description="Share of the peak for weights.")
    activation_bandwidth_fraction: Sourced[Fraction] = Field(
        description="Share of the peak for activations."
    )
    compute_fraction: Sourced[Fraction] = Field(description="Share of the peak of large products.")
    half_efficient_rows: Sourced[Annotated[int, Field(ge=0, le=1_000_000)]] = Field(
        description="Rows of a product that reaches half the rate of a large one."
    )
    compute: Compute
    link: str | None = Field(None, description="The fastest link that it takes, by name.")
    maker: str | None = Field(
        None, description="Whose it is, if not NVIDIA's: what its datasheet is off by is not known."
    )
    compute_capability: Sourced[Capability] | None = Field(
        None, description="NVIDIA's version of what the card can; None: Ampere's, 8.0, or later."
    )
    power: Sourced[Power] | None = Field(
        None, description="Of the whole board while it computes, memory included: its TDP."
    )
    waiting_power: Sourced[Power] | None = Field(
        None, description="Of the board while it waits with its clocks up; None: a prior."
    )

    @property
    def clock_hz(self) -> float:
        """The clock that the fp32 rate is of: each unit multiplies and adds once in a cycle."""
        lanes = self.lanes.value if self.lanes else USUAL_LANES
        return self.compute.fp32.value / (2 * lanes * self.multiprocessors.value)

    @property
    def capability(self) -> float:
        """Its compute capability, or Ampere's for all that came since, and for other makers'."""
        return self.compute_capability.value if self.compute_capability else AMPERE

    @property
    def like_measured(self) -> bool:
        """Whether what kernels of measured cards are off by is taken for this one: NVIDIA's with
        matrix units, though those of Volta and Turing are none of the measured.
        """
        return self.maker is None and self.capability >= VOLTA


class Datasheet(GpuNumbers):
    """One GPU and its copies."""

    pcie: Sourced[Rate] = Field(description="Raw bandwidth of the slot, one direction.")
    copies: Copies
    peers: Peers
    link_energy: Sourced[JoulesPerByte] | None = Field(
        None, description="Of a byte between host and GPU; None: a prior."
    )

    def copy_of(self, direction: Direction, pinned: bool = True) -> Copy:
        """Latency and bandwidth of a copy."""
        kinds: HostMemoryCopies = getattr(self.copies, direction)
        return kinds.pinned if pinned else kinds.pageable
