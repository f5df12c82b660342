"""A machine: one kind of GPU, its host, and the wiring between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from moesim.config.params import Params
from moesim.hardware.described.datasheet import Datasheet
from moesim.hardware.described.host import Host, Topology
from moesim.hardware.described.kernel_counts import HostKernels, SmallKernels
from moesim.hardware.described.links import DIRECTIONS, Links, links_between
from moesim.hardware.described.near_memory import NearMemory
from moesim.hardware.described.network import Network
from moesim.hardware.described.precision import peak_of, rate_of
from moesim.hardware.described.software import (
    CoreProducts,
    LatentPrompts,
    MixedAttention,
)
from moesim.hardware.described.sourced import UNVERIFIED, sources_used
from moesim.hardware.prices.calibrated import Calibrated
from moesim.hardware.prices.copy_curve import own_rate
from moesim.hardware.row_tiles import RowTiles

LARGEST_NODE = 8
"""GPUs of a node whose profile has no topology that says otherwise."""


class HardwareProfile(Params):
    """A hardware profile, complete: what its file left to its ``base`` is filled in.

    Without a ``topology`` every GPU has its own root port, so no copy shares a link; without a
    ``network`` there is one node.
    """

    name: str
    title: str
    sources: dict[str, str]
    datasheet: Datasheet
    host: Host
    topology: Topology | None = None
    network: Network | None = None
    calibrated: Calibrated | None = None
    near_memory: NearMemory | None = None
    near_units: int | None = None
    """Units of that which an expert lies on, where they are not all."""
    unified: bool = False
    """Whether CPU and GPU share one memory, that of the GPU: nothing is copied between them."""
    assumed_host: str | None = None
    """The host's name where none was named."""
    mixed_attention: MixedAttention = "joint"
    """How the software on it attends in steps of prompts and answers."""
    latent_prompts: LatentPrompts = "expanded"
    """What prompts of multi-head latent attention attend with there."""
    cache_bandwidth: float = 1.0
    """The share of the bandwidth of weights at which its attention reads a cache."""
    latent_products: float = 1.0
    """The share of the rate of large products at which its single queries attend in a latent."""
    head_reads: float | None = None
    """Bytes of a multiprocessor in a cycle, where it reads a cache again for each query's head."""
    cache_unpacked_from: int = 0
    """Queries from which on it unpacks a packed cache for each call; 0: never."""
    core_products: CoreProducts = Field(default_factory=dict)
    """What a core of the CPU does in a cycle there, by rows and format."""
    avx2_products: float = 1.0
    """The share of them that one without AVX-512 does."""
    row_tiles: RowTiles = "triton"
    """By which rule it pads the rows of products that no fit prices."""
    sampling_bytes: int = 0
    """Bytes that it moves of each logit to choose a token, beside writing it."""
    small_kernels: SmallKernels | None = None
    """How many kernels it runs and what each takes at least, where it says so."""
    host_kernels: HostKernels | None = None
    """The same of those on the CPU, after which its threads wait for one another."""

    @property
    def runs_ggml(self) -> bool:
        """Whether its kernels are llama.cpp's."""
        return self.row_tiles != "triton"

    @property
    def gpus(self) -> int:
        """The most GPUs of a node."""
        if self.unified:
            return 1
        return len(self.topology.gpus) if self.topology else LARGEST_NODE

    @property
    def memory_bytes(self) -> int:
        """Device memory of one GPU, the context's share included."""
        return self.datasheet.memory.value

    @property
    def context_bytes(self) -> int:
        """Device memory that driver and CUDA context take."""
        return self.datasheet.context_reserve.value

    @property
    def host_memory_bytes(self) -> int:
        """Memory of the host."""
        return self.host.memory.value

    @property
    def experts_start_ns(self) -> int:
        """What a layer's experts on the CPU take beside reading and computing: their threads'
        waits for one another, where the software says so, or the host's start.
        """
        if (kernels := self.host_kernels) is None:
            return self.host.layer_start_ns
        return round(kernels.waits_of(kernels.counts.grouped, self.host.expert_threads))

    @property
    def unverified(self) -> tuple[str, ...]:
        """The parts with numbers from memory, which nobody compared with a document."""
        parts = ("datasheet", "host", "topology", "network", "near_memory")
        return tuple(part for part in parts if any(self._from_memory(part)))

    def _from_memory(self, part: str) -> Iterator[bool]:
        for _, source in sources_used(getattr(self, part)):
            yield self.sources.get(source, "").startswith(UNVERIFIED)

    def peak(self, dtype: str) -> float:
        """Operations a second of a large product with ``dtype`` weights, from the datasheet."""
        return peak_of(self.datasheet.compute, dtype)

    def rate(self, dtype: str) -> float:
        """The same in the units that kernels without a fit multiply in."""
        return rate_of(self.datasheet.compute, dtype)

    def links(
        self, gpus: int | Sequence[int], pinned: bool = True, *, host_reads: bool = False
    ) -> Links:
        """The links that the copies of ``gpus`` (numbers, or how many) cross, and what the host
        reads for them where it computes experts (``host_reads``).

        InputError for a GPU that the node does not have.
        """
        numbers = range(gpus) if isinstance(gpus, int) else gpus
        rates = {way: own_rate(self.calibrated, self.datasheet, way, pinned) for way in DIRECTIONS}
        return links_between(rates, self.host, self.topology, numbers, host_reads=host_reads)
