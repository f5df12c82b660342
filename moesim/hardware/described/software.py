"""What the software stack adds to the hardware's times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from moesim.config.amounts.dimensions import DURATION
from moesim.config.errors import nearest
from moesim.config.params import Params
from moesim.config.units import Duration, within
from moesim.hardware.described.datasheet import Capability, Datasheet, Fraction
from moesim.hardware.described.kernel_counts import (
    HostKernels,
    KernelCounts,
    Kernels,
    SmallKernels,
    SourcedKernelCounts,
)
from moesim.hardware.described.precision import UNITS
from moesim.hardware.described.software_backend import (
    BACKENDS,
    Backend,
    PerCycle,
    Queries,
    SourcedBackend,
)
from moesim.hardware.described.software_memory import SoftwareMemory, SourcedSoftwareMemory
from moesim.hardware.described.sourced import Ranged, Sourced
from moesim.hardware.row_tiles import RowTiles
from moesim.model.spec import FfnSpec

EndMark = Annotated[
    Literal["..."], Field(description="The file's last line; without it the file was cut.")
]
Cycles = Annotated[int, Field(ge=1, le=1_000_000)]
Launch = Annotated[Duration, within("0 us", "1 ms", DURATION)]
HostTime = Annotated[Duration, within("0 us", "5 ms", DURATION)]
FrontTime = Annotated[Duration, within("0 us", "100 ms", DURATION)]
NS = 1e9
SERVING = ("schedule_ns", "per_request_ns", "output_ns", "per_request_out_ns")
"""What the host takes between steps of requests."""
OFFLOADING = ("launch_ns", "host_per_layer_ns", "host_per_copy_ns", "synchronisation_ns")
"""What it takes for launches, layers, copies and waits."""
Word = Annotated[str, Field(pattern=r"^[a-z0-9_.-]+$")]
Copied = Literal["expert", "matrix"]
Logits = Literal["last", "all"]
MixedAttention = Literal["joint", "apart"]
LatentPrompts = Literal["expanded", "absorbed"]
Execution = Literal["eager", "piecewise", "splits", "graph"]
"""Which launches are captured: none, all but those of the MoE part, all between two layers
that wait for their counts, or all."""


CopiesFrom = Annotated[int, Field(ge=1)] | Literal["never"]


def _format(name: str) -> str:
    """``name`` where it is that of a format of weights."""
    if name not in UNITS:
        raise ValueError(f"'{name}' is no format of weights; {nearest(name, UNITS)}")
    return name


Format = Annotated[str, AfterValidator(_format)]
OfFormat = dict[Format, Annotated[float, Field(gt=0, le=100_000)]]
CoreProducts = dict[Annotated[int, Field(ge=1)], OfFormat]
"""Operations that a core does in a cycle, by the rows of a product, by format."""


OF_KERNELS = (
    "mixed_attention", "latent_prompts", "latent_products", "cache_bandwidth", "head_reads",
    "cache_unpacked_from", "row_tiles", "core_products", "avx2_products", "sampling_bytes",
)  # fmt: skip
"""What prices read of a software's kernels, which a machine has as the software uses it."""


class SoftwareProfile(Params):
    """A software stack: plain numbers; ``sources`` says by name where each comes from.

    ``launch_ns``: host time of one kernel launch. ``host_per_layer_ns``, ``host_per_copy_ns``:
    other host time. ``copied``: an expert is one copy, or one a matrix. ``pinned``: host memory of
    the copies; ``states_pinned``: of hidden states and counts that cross the link (None: the same);
    ``blocking``: the host waits for each; ``overlap``: copies run beside kernels; ``copies_back``:
    what a copy takes the place of goes to the host behind it, as many bytes.
    ``synchronisations``: host waits for the GPU a MoE layer, of ``synchronisation_ns`` each;
    ``cpu_synchronisations``: those of a layer for which nothing is loaded before it goes on, as the
    CPU computes what is missing, and ``resident_synchronisations`` those of a layer whose experts
    every GPU holds, where they differ. ``count_reads``: how many of them a decision
    takes whose counts were exchanged.
    ``calls_empty``: experts that run one by one are called without rows too. ``logits``: of which
    prompt tokens there are any, and ``logit_bytes`` of each. ``logits_to_host``: they are copied to
    the host, which waits for them before the next pass; ``input_copies``: copies from the host that
    bring a pass its inputs, each waited for. ``mapped``: what is not in host memory comes by page
    faults of a mapped file. ``resident_execution``: what is
    captured of decode steps in which nothing waits for the host, ``offloaded_execution``: where
    experts are offloaded; steps of more than ``most_captured_tokens`` a GPU are not captured,
    nor is anything on NVIDIA's cards of a compute capability below ``captures_from``.
    ``unpacking_bytes`` are written and read for each weight of an expert in a narrow format, which
    is unpacked before each product; 0: kernels read it as it is. ``memory``: what it holds of a
    GPU's beside weights, caches and rows.
    Where it serves requests, the host takes ``schedule_ns`` and, of each request in it,
    ``per_request_ns`` before a step, ``output_ns`` and ``per_request_out_ns`` after it;
    ``frontend_ns``: of a request from the client to the scheduler, and of a token back; on its way
    there it is made tokens in ``tokenize_ns``, and ``per_prompt_token_ns`` for each of them.
    ``framework``: whose kernels it runs, by the name that fits have; ``moe_backend``: a part of its
    expert kernels' names; ``auto_moe_backend``: the same, where its framework has such on the card.
    ``mixed_attention``: whether prompts and answers of a step are attended to in one call, of
    kernels that can, or apart; ``latent_prompts``: what prompts over a latent attend with.
    ``cache_bandwidth``: the share of the bandwidth of weights at which attention reads keys and
    values where no fit prices it, ``latent_products`` that of the rate of large products at which
    single queries attend in a latent. ``head_reads``: bytes that a multiprocessor reads from the
    GPU's caches in a clock cycle where attention reads keys and values again for each head of the
    queries, as Metal's does; None: it reads them once. ``cache_unpacked_from``: queries of a
    request from which on a cache in a packed format is brought to 16 bits before each call; 0:
    kernels read it as it is.
    ``copies_from``: tokens of a pass from which on experts of layers on the CPU are copied to the
    GPU that computes them, ``copies_from_rows`` the mean rows of an expert from which on, where
    both hold. ``core_products``: operations that a core of the CPU does in a cycle, by the rows of
    a product, between which its time is a line, and the format of its weights; ``avx2_products``:
    the share of them that a core without AVX-512 does; ``thread_wait_ns``: for which, for each of
    them, the threads of the CPU wait for one another after each kernel of a layer that it runs.
    ``row_tiles``: by which rule it pads the rows of products that no fit prices. ``start_cycles``:
    of the GPU's clock, for which each of its ``kernels`` holds the GPU at least; None: the
    hardware's ``kernel_start``, of as many kernels as operations have. ``sampling_bytes``: what is
    moved of each logit to choose a token, once it is written.
    ``backends``: what differs in another backend, which GPUs of some makers have (``on_card``).
    ``ranges``: the least and the most that sources give of times.
    """

    name: str
    title: str
    sources: dict[str, str]
    launch_ns: float = 0.0
    kernels: KernelCounts = KernelCounts()
    host_per_layer_ns: float = 0.0
    host_per_copy_ns: float = 0.0
    copied: Copied = "expert"
    pinned: bool = True
    states_pinned: bool | None = None
    blocking: bool = False
    overlap: bool = True
    copies_back: bool = False
    synchronisations: int = 0
    cpu_synchronisations: int | None = None
    resident_synchronisations: int | None = None
    synchronisation_ns: float = 0.0
    count_reads: int = 1
    calls_empty: bool = False
    logits: Logits = "last"
    logit_bytes: int = 4
    logits_to_host: bool = False
    input_copies: int = 0
    mapped: bool = False
    resident_execution: Execution = "eager"
    offloaded_execution: Execution = "eager"
    most_captured_tokens: int | None = None
    captures_from: float = 0.0
    unpacking_bytes: float = 0.0
    schedule_ns: float = 0.0
    per_request_ns: float = 0.0
    output_ns: float = 0.0
    per_request_out_ns: float = 0.0
    frontend_ns: float = 0.0
    tokenize_ns: float = 0.0
    per_prompt_token_ns: float = 0.0
    framework: str | None = None
    moe_backend: str | None = None
    auto_moe_backend: str | None = None
    copies_from: CopiesFrom = "never"
    copies_from_rows: int = 0
    core_products: CoreProducts = Field(default_factory=dict)
    avx2_products: float = 1.0
    thread_wait_ns: float = 0.0
    mixed_attention: MixedAttention = "joint"
    latent_prompts: LatentPrompts = "expanded"
    cache_bandwidth: float = 1.0
    latent_products: float = 1.0
    head_reads: float | None = None
    cache_unpacked_from: int = 0
    row_tiles: RowTiles = "triton"
    sampling_bytes: int = 0
    start_cycles: int | None = None
    memory: SoftwareMemory = SoftwareMemory()
    backends: dict[str, Backend] = Field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)

    def range_of(self, *, serves: bool) -> tuple[float, float] | None:
        """Between which its times lie over what they are here, in the sources' own words: the
        widest of those that it has of steps that serve requests, else of launches, copies and
        waits. None where no source gives one, or there are none.
        """
        names = SERVING if serves else OFFLOADING
        ends = [
            (low / value, high / value)
            for name, (low, high) in self.ranges.items()
            if name in names and (value := getattr(self, name))
        ]
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None

    def ends_of(self, times: Mapping[str, float]) -> tuple[float, float] | None:
        """Between which a sum of its ``times`` lies, over what it is here, of so many of each by
        name; None where it is nothing.
        """
        value = sum(many * float(getattr(self, name)) for name, many in times.items())
        ends = {name: self.ranges.get(name, (getattr(self, name),) * 2) for name in times}
        low, high = (sum(n * ends[name][end] for name, n in times.items()) for end in (0, 1))
        return (low / value, high / value) if value else None

    def small_kernels(self, clock_hz: float) -> SmallKernels | None:
        """What its kernels take at least on a GPU of that clock, where it says so."""
        if self.start_cycles is None:
            return None
        return SmallKernels(start_ns=self.start_cycles * NS / clock_hz, counts=self.kernels)

    @property
    def host_kernels(self) -> HostKernels | None:
        """What its kernels on a CPU wait for its threads, where it says so."""
        if not self.thread_wait_ns:
            return None
        return HostKernels(wait_ns=self.thread_wait_ns, counts=self.kernels)

    @property
    def pins_states(self) -> bool:
        """Whether hidden states and counts that cross the link lie in pinned host memory."""
        return self.pinned if self.states_pinned is None else self.states_pinned

    @property
    def captures(self) -> bool:
        """Whether it ever captures launches."""
        return (self.resident_execution, self.offloaded_execution) != ("eager", "eager")

    def on_card(self, sheet: Datasheet) -> SoftwareProfile:
        """It on a GPU of that datasheet: its backend there, and what it captures."""
        backend = self.backends.get(BACKENDS.get(sheet.maker, ""), Backend())
        changes = backend.changes()
        if sheet.capability < self.captures_from:
            changes |= {"resident_execution": "eager", "offloaded_execution": "eager"}
        return self.model_copy(update=changes) if changes else self

    def copies_per_expert(self, expert: FfnSpec) -> int:
        """Copies that bring one ``expert``: 1, or one for each of its two or three matrices."""
        if self.copied == "expert":
            return 1
        return 3 if expert.gated else 2


class SoftwareFile(Params):
    """A software profile's file: every value with its source; what is left out is that of the
    profile ``base``.
    """

    end_mark: EndMark | None = None
    title: str = Field(min_length=1)
    sources: dict[str, str] = Field(description="What each source's key stands for.")
    base: str | None = Field(None, description="The profile that has what is left out here.")
    since: str | None = Field(
        None, description="The first version that this is of: others go by the latest before them."
    )
    launch: Ranged[Launch] = Field(description="Host time of one kernel launch.")
    kernels: SourcedKernelCounts
    host_per_layer: Ranged[HostTime]
    host_per_copy: Ranged[HostTime]
    copied: Sourced[Copied] = Field(description="What one copy brings: an expert or a matrix.")
    pinned: Sourced[bool]
    states_pinned: Sourced[bool] | None = Field(
        None,
        description="Whether hidden states and counts that cross the link lie in pinned host"
        " memory: as experts do, if left out.",
    )
    blocking: Sourced[bool]
    overlap: Sourced[bool] | None = Field(
        None,
        description="Whether copies run beside kernels: yes, but where the host is the device.",
    )
    copies_back: Sourced[bool] | None = Field(
        None,
        description="Whether an expert that gives way is copied to the host, before the next copy:"
        " no, if left out.",
    )
    synchronisations: Sourced[Kernels] = Field(description="Host waits a MoE layer.")
    cpu_synchronisations: Sourced[Kernels] | None = Field(
        None,
        description="Those of a layer whose missing experts the CPU computes: as above, if"
        " left out.",
    )
    resident_synchronisations: Sourced[Kernels] | None = Field(
        None,
        description="Those of a layer whose experts every GPU holds: as above, if left out.",
    )
    synchronisation: Ranged[HostTime] = Field(description="Host time of one wait.")
    count_reads: Sourced[Annotated[int, Field(ge=1, le=1_000_000)]] | None = Field(
        None, description="Waits for counts that GPUs exchanged: 1, if left out."
    )
    calls_empty: Sourced[bool] | None = Field(
        None, description="Whether serial experts are called without rows too: no, if left out."
    )
    logits: Sourced[Logits] | None = Field(
        None, description="Which prompt tokens have logits: the last, if left out, or all."
    )
    logit_bytes: Sourced[Annotated[int, Field(ge=1, le=1024)]] | None = Field(
        None, description="Bytes that a logit takes in all its copies: 4, if left out."
    )
    logits_to_host: Sourced[bool] | None = Field(
        None,
        description="Whether logits are copied to the host, which waits for them after each pass:"
        " no, if left out.",
    )
    input_copies: Sourced[Kernels] | None = Field(
        None,
        description="Copies from the host that bring a pass its inputs, each waited for: 0, if left"
        " out.",
    )
    mapped: Sourced[bool] | None = Field(
        None,
        description="Whether experts that are not in host memory come by page faults of a mapped"
        " file: no, by reads, if left out.",
    )
    resident_execution: Sourced[Execution] | None = Field(
        None,
        description="What is captured of decode steps that never wait for the host: nothing"
        " (eager), if left out.",
    )
    offloaded_execution: Sourced[Literal["eager", "piecewise", "splits"]] | None = Field(
        None, description="Likewise where experts are offloaded: nothing (eager), if left out."
    )
    most_captured_tokens: Sourced[Annotated[int, Field(ge=1)]] | None = Field(
        None, description="Tokens of a GPU's largest captured step: any, if left out."
    )
    captures_from: Sourced[Capability] | None = Field(
        None,
        description="The least compute capability of NVIDIA's cards on which anything is captured:"
        " any, if left out.",
    )
    unpacking_bytes: Sourced[Annotated[float, Field(ge=0, le=256)]] | None = Field(
        None,
        description="Bytes written and read for each weight of an expert that is unpacked to 16"
        " bits before its product: none, as kernels read packed weights, if left out.",
    )

    schedule: Ranged[HostTime] | None = Field(
        None, description="Serving: host time to decide and prepare a step: 0, if left out."
    )
    per_request: Ranged[HostTime] | None = Field(
        None, description="Likewise, for each request in the step."
    )
    output: Ranged[HostTime] | None = Field(
        None, description="Serving: host time from the end of a step until its tokens are known."
    )
    per_request_out: Ranged[HostTime] | None = Field(
        None, description="Likewise, for each request in the step."
    )
    frontend: Ranged[FrontTime] | None = Field(
        None,
        description="Serving: from the client to the scheduler, and from there back (HTTP,"
        " messages between processes), each: 0, if left out.",
    )
    tokenize: Ranged[HostTime] | None = Field(
        None,
        description="Serving: what a prompt waits, on its way, for the tokenizer beside its work:"
        " 0, if left out.",
    )
    per_prompt_token: Ranged[Launch] | None = Field(
        None, description="Serving: the tokenizer's work for each token of a prompt: 0, likewise."
    )
    framework: Sourced[Word] | None = Field(
        None,
        description="Whose kernels run, where a hardware profile has several: vllm, sglang,"
        " trtllm. Those that come first in it, if left out.",
    )
    moe_backend: Sourced[Word] | None = Field(
        None,
        description="Of expert kernels only those with this in their name, in formats that have"
        " such: triton, marlin, cutlass, trtllm. Any, if left out.",
    )
    auto_moe_backend: Sourced[Word] | None = Field(
        None,
        description="The same, by card: in formats of which its framework's own kernels on the card"
        " have such, those alone.",
    )
    mixed_attention: Sourced[MixedAttention] | None = Field(
        None,
        description="Serving: prompts and answers of a step are attended to in one call, where the"
        " kernel takes both (joint, if left out), or each in one of its own (apart).",
    )
    copies_from: Sourced[CopiesFrom] | None = Field(
        None,
        description="Tokens of a forward pass from which on experts of layers on the CPU are copied"
        " to the GPU, which computes them: never, if left out.",
    )
    copies_from_rows: Sourced[Annotated[int, Field(ge=1)]] | None = Field(
        None,
        description="Rows of an expert in the mean from which on, likewise, where both hold: any,"
        " if left out.",
    )
    core_products: Sourced[CoreProducts] | None = Field(
        None,
        description="Operations that a core of the CPU does in a cycle, by the rows of a product"
        " (between them its time is a line) and the format of its weights; None: a prior.",
    )
    avx2_products: Sourced[Fraction] | None = Field(
        None,
        description="Share of 'core_products' that a core without AVX-512 does in a cycle: all, if"
        " left out.",
    )
    thread_wait: Ranged[Launch] | None = Field(
        None,
        description="What each kernel of a layer on the CPU takes for each of its threads, which"
        " wait for one another: a prior a layer, if left out.",
    )
    latent_prompts: Sourced[LatentPrompts] | None = Field(
        None,
        description="Prompts of multi-head latent attention attend with keys and values of each"
        " head (expanded, if left out), or in the latent, as decodes do (absorbed).",
    )
    cache_bandwidth: Sourced[Fraction] | None = Field(
        None,
        description="Share of the bandwidth of weights at which attention reads keys and values,"
        " where no fit prices it: all of it, if left out.",
    )
    latent_products: Sourced[Fraction] | None = Field(
        None,
        description="Share of the rate of large products at which single queries attend in a"
        " latent, where no fit prices it: all of it, if left out.",
    )
    head_reads: Sourced[PerCycle] | None = Field(
        None,
        description="Bytes that a multiprocessor reads from caches in a clock cycle, where"
        " attention reads keys and values again for each head of the queries (of one query, or of 8"
        " where a request has 20 or more): each is read once, if left out.",
    )
    cache_unpacked_from: Sourced[Queries] | None = Field(
        None,
        description="Queries of a request from which on keys and values in a packed format are"
        " written in 16 bits, and read so, by each call: none (0), as kernels read what is cached,"
        " if left out.",
    )
    row_tiles: Sourced[RowTiles] | None = Field(
        None,
        description="To which tiles rows are padded in products that no fit prices: those of"
        " Triton's fused experts (triton, if left out), or of llama.cpp's kernels (ggml, and"
        " ggml-whole before those of Metal had halves).",
    )
    sampling_bytes: Sourced[Annotated[int, Field(ge=0, le=256)]] | None = Field(
        None,
        description="Bytes of each logit that a GPU reads and writes to choose tokens, once the"
        " output product has written it: none, if left out.",
    )
    start_cycles: Sourced[Cycles] | None = Field(
        None,
        description="Clock cycles for which each of its kernels holds the GPU at least:"
        " 'kernel_start' of the hardware, for as many kernels as operations have, if left out.",
    )
    memory: SourcedSoftwareMemory = Field(
        SourcedSoftwareMemory(),
        description="What it holds of a GPU's memory beside weights, caches and rows.",
    )
    backends: dict[Literal["metal"], SourcedBackend] = Field(
        {}, description="What differs in another backend: metal, on Apple's GPUs."
    )

    def profile(self, name: str) -> SoftwareProfile:
        """The plain profile, called ``name``."""
        counts = self.kernels.entries()
        parts = {"launch", "host_per_layer", "host_per_copy", "synchronisation"}
        plain = {"copied", "pinned", "blocking", "synchronisations"}
        optional = {
            "cpu_synchronisations",
            "resident_synchronisations",
            "overlap",
            "copies_back",
            "count_reads",
            "calls_empty",
            "logits",
            "logit_bytes",
            "logits_to_host",
            "input_copies",
            "mapped",
        }
        optional |= {"resident_execution", "offloaded_execution", "most_captured_tokens"}
        optional |= {"captures_from"}
        optional |= {"unpacking_bytes", "framework", "moe_backend", "auto_moe_backend"}
        optional |= {"copies_from", "copies_from_rows", "start_cycles", "states_pinned"}
        optional |= {*OF_KERNELS}
        timed = ["schedule", "per_request", "output", "per_request_out"]
        timed += ["frontend", "tokenize", "per_prompt_token", "thread_wait"]
        parts |= {part for part in timed if getattr(self, part) is not None}
        durations = {f"{part}_ns": getattr(self, part) for part in parts}
        others = {part: getattr(self, part) for part in plain}
        given = {part: getattr(self, part) for part in optional}
        others |= {part: entry for part, entry in given.items() if entry is not None}
        entries = {f"kernels.{part}": count for part, count in counts.items()} | durations | others
        entries |= {f"memory.{part}": entry for part, entry in self.memory.entries().items()}
        entries |= {
            f"backends.{name}.{part}": entry
            for name, backend in self.backends.items()
            for part, entry in backend.entries()
        }
        ends = {key: entry.ends for key, entry in durations.items() if entry.ends}
        return SoftwareProfile(
            name=name,
            title=self.title,
            ranges=ends,
            sources={key: self.sources[entry.source] for key, entry in sorted(entries.items())},
            kernels=self.kernels.plain(),
            memory=self.memory.plain(),
            backends={name: backend.plain() for name, backend in self.backends.items()},
            **{key: entry.value for key, entry in (durations | others).items()},
        )
