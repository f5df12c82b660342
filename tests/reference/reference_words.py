"""The words the reference speaks: what goes in (model, choices, prices) and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any, Protocol

NO_EXPERT = 65535
PREFILL, DECODE, ENCODE = 0, 1, 2
MIXED = 3  # a pass of prompts and of tokens that are decoded
PHASE_NAMES = {PREFILL: "prefill", DECODE: "decode", ENCODE: "encode", MIXED: "mixed"}

CATEGORIES = (
    "attention",
    "gate",
    "dispatch_combine",
    "experts",
    "host",
    "waiting_for_weights",
    "waiting_for_gpus",
    "waiting_for_cpu",
)
STORAGE = "waiting_for_storage"  # follows them where experts are read from storage
DRAFTING = "drafting"  # and this, where drafts are made
LAYER_COPIES = "layer_copies"  # and this, where layers are copied
REBALANCING = "rebalancing"  # and this, where GPUs wait for experts that move
PREDICTION = "prediction"  # and this, where predicting takes time
INPUTS = "waiting_for_inputs"  # and these two, where the host copies between passes
LOGITS = "waiting_for_logits"
UNPACKING = "unpacking"  # and this, where experts are unpacked

# lists: expert_ids[T][L][k], perhaps gate_weights and predicted_ids alike, request_id[T], ...
Trace = dict[str, Any]


@dataclass(frozen=True)
class Rebalance:
    """Before every ``interval``-th pass experts get other places, by the choices of the last
    ``window``, if GPUs are not busier than ``least``.
    """

    interval: int
    window: int
    one_by_one: bool = False
    least: float = 1.0
    planning: int = 0


@dataclass(frozen=True)
class Layer:
    """One layer of the model; ``index`` is its place among all; layers of a ``kind`` cost alike."""

    index: int
    moe: bool
    stack: str = "decoder"
    window: int | None = None
    kind: int = 0


@dataclass(frozen=True)
class Model:
    layers: list[Layer]
    experts: int
    top_k: int
    hidden: int
    activation_bytes: int
    expert_bytes: int
    by_layer: tuple[int, ...] = ()  # bytes of an expert of each MoE layer; none: all alike
    reused_bytes: int = 0  # of each expert, that stay on the GPU, and host and storage have too
    varies: bool = False  # tokens choose different numbers of experts

    def bytes_in(self, moe_layer: int) -> int:
        return self.by_layer[moe_layer] if self.by_layer else self.expert_bytes

    def stored_in(self, moe_layer: int) -> int:
        """Bytes that host memory and storage have of an expert."""
        return self.bytes_in(moe_layer) + self.reused_bytes

    @property
    def moe_layers(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.moe]

    def layer_bytes(self, layer: Layer, but_experts: bool = False) -> int:
        """One for attention, and one for its sources; norms have a layer's kind, all else no bytes
        but what an expert has: each of a mixture, and a dense network.
        """
        encodes = any(other.stack == "encoder" for other in self.layers)
        attention = 2 if encodes and layer.stack == "decoder" else 1
        networks = 0 if layer.moe and but_experts else self.experts if layer.moe else 1
        return attention + layer.kind + self.expert_bytes * networks

    def layers_of(self, phase: int) -> list[Layer]:
        """Encode passes run the encoder, others the decoder; without an encoder: all layers."""
        if not any(layer.stack == "encoder" for layer in self.layers):
            return self.layers
        stack = "encoder" if phase == ENCODE else "decoder"
        return [layer for layer in self.layers if layer.stack == stack]


@dataclass(frozen=True)
class Kernels:
    """Kernel launches: attention and head in one layer or pass, expert in one activation, ..."""

    attention: int = 0
    gate: int = 0
    expert: int = 0
    grouped: int = 0
    combine: int = 0
    head: int = 0
    reorder: int = 0
    sequence: int | None = None  # attention of encode and prefill passes; None: as of others
    gate_by_gating: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Software:
    kernels: Kernels = field(default_factory=Kernels)
    launch_ns: float = 0.0
    host_per_layer_ns: float = 0.0
    host_per_copy_ns: float = 0.0
    copies_per_expert: int = 1
    pinned: bool = True
    states_pinned: bool = True
    blocking: bool = False
    overlap: bool = True
    copies_back: bool = False
    logits_to_host: bool = False
    input_copies: int = 0
    synchronisations: int = 0
    cpu_synchronisations: int | None = None
    resident_synchronisations: int | None = None
    synchronisation_ns: float = 0.0
    count_reads: int = 1
    calls_empty: bool = False


@dataclass(frozen=True)
class Prefetch:
    """What is copied ahead; ``first_part`` is where next_layer learns, ``budget`` in bytes."""

    kind: str = "none"  # none | oracle | recorded | next_layer | history
    layers: int = 1
    recall: float | tuple[float, ...] = 1.0  # or one for each layer ahead
    precision: float | tuple[float, ...] = 1.0
    first_part: float | Fraction = 0.25
    budget: int | None = None
    stop: str = "none"  # none | first_missing
    when: str = "layer"  # layer | before_pass
    every: int = 1  # passes, of before_pass
    cost: int = 0  # of a prediction, in ns
    variant: str = "wanted"  # wanted | high | low, where experts have variants


@dataclass(frozen=True)
class Variant:
    """A format of every expert: its bytes, and by how much its kernels differ from the model's."""

    expert_bytes: int
    slots: int | list[int] | None = None
    kind: int = 0
    nested: bool = False  # its bits are those of the one before it, the first of them


@dataclass(frozen=True)
class Config:
    batching: str = "static"  # static | refill
    batch_size: int = 1
    phase: str = "decode"  # decode | prefill | all | encode
    drafts: int = 0  # that a decode step verifies of each request
    chances: tuple[float, ...] = ()  # that those which follow one another are right
    rejected: str = "continuation"  # continuation | other
    draws: int = 0  # drafts that a model makes one after the other; 0: they are free
    chunk: int | None = None  # prompt tokens of a GPU in a pass; None: all
    prefill: str = "cache"  # cache | bypass | stream: where experts of prompts go
    stream_from: int = 0  # prompt tokens from which on passes of served requests stream
    gpus: int = 1
    group: int = 1  # neighbouring GPUs that split attention, dense FFNs and shared experts
    slices: int = 1  # neighbours that each have a part of their experts, and all rows of these
    reduces: bool = False  # every GPU has all tokens, and whole experts of its own
    once: bool = False  # rows are dispatched once to a GPU, for all its experts
    dispatch_dtype: str | None = None  # fp8 | fp8_block | mxfp8 | nvfp4 | int8
    gating: str = "dynamic"  # dynamic | static | gshard | no_drop | tutel
    capacity_fraction: float | Fraction = 0.25  # static, tutel
    no_drop: bool = False  # tutel's capacity: the largest count
    factor: float | Fraction = 1.0  # gshard
    min_capacity: int = 4
    drop: str = "first_come"  # first_come | random | highest_gate_first | batch_prioritised
    placement: str = "contiguous"  # contiguous | round_robin | plan
    plan: list[list[int]] | None = None  # by MoE layer, the logical expert of each physical one
    rebalance: Rebalance | None = None
    # per GPU and MoE layer, one number or one a layer; None: all local experts
    slots: int | list[int] | list[int | None] | None = None
    pool_bytes: int | None = None  # per GPU, of a pool by bytes; None: those of its slots
    exchanges: bool = False  # slots may go: no layer holds its experts for good
    policy: str = "lru"  # a name of reference_policies.POLICIES
    parameters: dict[str, Any] = field(default_factory=dict)  # of the policy, as a user names them
    scope: str = "layer"  # layer | global
    first_part: float | Fraction = 0.25  # where usage is learnt: policy static, initial most_used
    miss: str = "load"  # load | cpu | cheapest | zero_copy | skip | background | split
    rule: str = "least_makespan"  # bandwidth | least_makespan | cheapest: of split
    alpha: float = 1.0  # of bandwidth
    bandwidths: tuple[int, int] = (1, 1)  # of the link and of the host: of bandwidth
    uploads: int | None = None  # loads that cheapest may make in a step and layer; None: any
    order: str = "id"  # id | resident_first | least_makespan
    protect: str = "step"  # step | none
    kernels: str = "grouped"  # grouped | serial | batched | block_sparse
    initial: str = "empty"  # empty | most_used | lowest_ids | random
    seed: int = 0
    execution: str = "eager"  # eager | piecewise | splits | graph
    # passes that decode, others, and the most tokens of a GPU's group: larger ones are eager
    captured: tuple[str, str, int] | None = None  # None: all as execution says
    decide: str = "host"  # host | device
    software: Software = field(default_factory=Software)
    prefetch: Prefetch = field(default_factory=Prefetch)
    host_start_ns: int = 0  # of the host's experts of a layer
    near_memory: bool = False  # a device computes what the host would
    unit_groups: int = 1  # of its units, each with experts of its own: of cpu
    row_ns: tuple[float, float] = (0.0, 0.0)  # of a row to all units of a group, and back
    copies_from: int | None = None  # tokens of a pass, from which on it is copied: of cpu
    variants: tuple[Variant, ...] = ()  # the first is the model itself, with its slots
    choose: str = "gate_cumulative"  # gate_cumulative | gate_ratio | hot_cold | resident_else
    limits: tuple[float, ...] = ()  # by variant
    beyond: str = "skip"  # skip | low | substitute; of resident_else: high too
    use_worse: bool = False
    nodes: int = 1
    host_slots: int | None = None  # of a node's host memory; None: it holds all experts
    host_bytes: int | None = None  # in place of its slots, where experts differ in bytes
    one_memory: bool = False  # that of the GPU, if the host has no slots
    host_policy: str = "lru"
    reads: int = 1  # requests that read an expert
    mapped: bool = False
    host_layers_ahead: int | None = None  # whole layers are read, so many ahead
    read_chunk: int | None = None  # bytes that a copy waits for
    unpacks: bool = False  # experts, before their products
    copied_layers: int = 0  # the first ones, copied whole before they run, or read in place

    @property
    def groups(self) -> int:
        """Groups of units at work, where there are some."""
        return self.unit_groups if self.near_memory and self.miss == "cpu" else 1

    @property
    def copies_all_from(self) -> int | None:
        """``copies_from`` where that goes together with the rest."""
        other = self.near_memory or self.variants or self.prefetch.kind != "none"
        other = other or self.order == "least_makespan"
        alone = (self.miss, self.prefill, bool(other)) == ("cpu", "cache", False)
        return self.copies_from if alone else None

    @property
    def categories(self) -> tuple[str, ...]:
        own = CATEGORIES if self.host_slots is None else (*CATEGORIES, STORAGE)
        if self.draws:
            own = (*own, DRAFTING)
        if self.copied_layers:
            own = (*own, LAYER_COPIES)
        if self.prefetch.kind != "none" and self.prefetch.cost > 0:
            own = (*own, PREDICTION)
        if self.rebalance is not None:
            own = (*own, REBALANCING)
        if self.software.input_copies:
            own = (*own, INPUTS)
        if self.software.logits_to_host:
            own = (*own, LOGITS)
        return (*own, UNPACKING) if self.unpacks else own

    @property
    def may_skip(self) -> bool:
        """Whether experts may be left out."""
        left_out = ("skip", "substitute")
        return self.miss == "skip" or (bool(self.variants) and self.beyond in left_out)

    @property
    def holders(self) -> int:
        """Of whole experts: GPUs, or groups of them."""
        return self.gpus // self.slices

    @property
    def sliced(self) -> bool:
        return self.slices > 1

    @property
    def parts(self) -> int:
        """Of every expert."""
        return self.slices

    @property
    def gathers(self) -> bool:
        """Whether all GPUs have the same tokens in front of experts."""
        return self.sliced or self.reduces

    @property
    def sends_once(self) -> bool:
        return self.once and self.gating == "dynamic" and not self.gathers

    def row_bytes(self, values: int, whole: int) -> int:
        """Of a row of so many values that goes to experts, which is ``whole`` where it is not in
        another format.
        """
        if self.gating != "dynamic":
            return whole
        return {
            "fp8": values + 4,
            "int8": values + 4,
            "fp8_block": values + 4 * ceil(values / 128),
            "mxfp8": values + ceil(values / 32),
            "nvfp4": ceil(values / 2) + ceil(values / 16),
        }.get(self.dispatch_dtype or "", whole)

    @property
    def senders(self) -> int:
        """Whose tokens are counted apart: GPUs, or all of them together."""
        return 1 if self.gathers else self.gpus

    @property
    def reads_layers(self) -> bool:
        """Layers that would be copied are read where they are."""
        return self.miss == "zero_copy"

    def holder(self, gpu: int) -> int:
        return gpu // self.parts

    def sender(self, gpu: int) -> int:
        return 0 if self.gathers else gpu

    @property
    def agrees(self) -> bool:
        return self.gating == "no_drop" or (self.gating == "tutel" and self.no_drop)

    @property
    def drops(self) -> str | None:
        if self.agrees or self.gating == "dynamic":
            return None
        return self.drop if self.gating == "gshard" else "first_come"

    @property
    def in_place(self) -> bool:
        """Experts are read from storage into the GPU's slots; nothing is copied."""
        return self.host_slots == 0 and self.one_memory

    def copy_ns(self, model: Model, prices: Prices) -> int:
        """One expert's copy."""
        if self.in_place:
            return 0
        copies = self.software.copies_per_expert
        size, pinned = model.expert_bytes, self.software.pinned
        back = self.software.copies_back
        ways = ("h2d", "d2h") if back else ("h2d",)
        return sum(prices.copy_ns(size, way, pinned, copies) for way in ways)

    def rows_on_gpu(self, rows: int) -> int:
        return -(-rows // 128) * 128 if self.kernels == "block_sparse" else rows

    def lacks(self, model: Model, moe_layer: int, local: int) -> bool:
        """Whether a GPU with so many experts of a layer does not hold them all in the whole run."""
        if self.exchanges:
            return True
        if self.pool_bytes is not None:
            return self.pool_bytes < local * sum(map(model.bytes_in, range(len(model.moe_layers))))
        slots = self.slots_of(moe_layer)
        return slots is not None and slots < local

    def slots_of(self, moe_layer: int) -> int | None:
        return self.slots[moe_layer] if isinstance(self.slots, list) else self.slots


class Prices(Protocol):
    """CostModel's methods, one price at a time, plain integers in and out."""

    def attention_ns(
        self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int, *decoding: int
    ) -> int: ...
    def cross_attention_ns(
        self, layer: Any, context_tokens: int, kv_tokens: int, projected_tokens: int
    ) -> int: ...
    def dense_ns(self, layer: Any, tokens: int) -> int: ...
    def gate_ns(self, layer: Any, tokens: int) -> int: ...
    def permute_ns(self, layer: Any, rows: int) -> int: ...
    def shared_ns(self, layer: Any, tokens: int) -> int: ...
    def experts_ns(self, layer: Any, rows: list[int], *tokens: int) -> int: ...
    def unpacking_ns(self, layer: Any, experts: int) -> int: ...
    def cpu_expert_ns(self, layer: Any, rows: int) -> int: ...
    def near_expert_ns(self, layer: Any, rows: int) -> int: ...
    def head_ns(self, tokens: int) -> int: ...
    def sampling_ns(self, tokens: int) -> int: ...
    def drafting_ns(self, times: int, *numbers: int) -> int: ...
    def masks_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int: ...
    def combine_product_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int: ...
    def encode_ns(self, layer: Any, tokens: int, experts: int, capacity: int, rows: int) -> int: ...
    def decide_ns(self) -> int: ...
    def copy_ns(self, size: int, direction: str, pinned: bool, copies: int) -> int: ...
    def all_to_all_ns(self, matrix: list[list[int]]) -> int: ...
    def all_reduce_ns(self, gpus: int, size: int) -> int: ...
    def gather_logits_ns(self, gpus: int, tokens: int) -> int: ...
    def read_logits_ns(self, tokens: int, wait_ns: int) -> int: ...
    def step_inputs_ns(self, tokens: int, copies: int) -> int: ...
    def storage_read_ns(self, size: int, reads: int, mapped: bool, queued: bool) -> int: ...


@dataclass
class Activation:
    """One expert's activation in one step of one (layer, GPU)."""

    step: int
    layer: int
    gpu: int
    activation: int
    expert: int
    hit: bool
    victim: int | None = None  # the last one
    evicted: int = 0  # how many went
    over: tuple[int, ...] = ()  # those of them whose activation in this step is over
    place: str = ""  # "" hit or late | "load" | "host" | "link" | "skip": how a miss is computed
    # "" no load | "free" | "a" | "b" | "c" | "d" | beside the slots: "staged" | "layer"
    rule: str = ""
    resident_at_start: bool = True
    launch: int = 0  # -1: computed by the host, or not at all
    rows: int = 0
    kept_rows: int = 0
    variant: int = 0
    part: int = 0  # 1: behind those that go through the slots, in launches of their own
    slice_of: int | None = None  # what is there of it already, as a worse variant
    late: bool = False  # in a slot, but its copy has not ended: neither a hit nor a miss
    copy: Any = None  # the prefetch that a late activation waits for
    read: int | None = None  # when what it reads from storage is in host memory
    lead: int | None = None  # how long before that its copy may begin, where reads differ
    caused: bool = False  # a miss whose expert was last evicted by a prefetch
    mark: str = ""  # whose tokens choose it: "decode" | "prompt" | "both"; "" nobody's
    after: str = ""  # the mark of what evicted it, the last time

    @property
    def missed(self) -> bool:
        return not self.hit and not self.late


@dataclass(frozen=True)
class Span:
    """When a copy, a launch or the host ran: engine ``copy_in``, ``compute`` or ``host``."""

    step: int
    layer: int
    gpu: int
    engine: str
    experts: tuple[int, ...]
    start_ns: int
    end_ns: int


@dataclass
class Verdict:
    """Everything the reference says: exact integers, nanoseconds, rows, bytes."""

    tokens: int = 0
    decode_tokens: int = 0
    answer_tokens: int = 0
    layer_steps: int = 0
    duration_ns: int = 0
    hits: int = 0
    late: int = 0
    misses: int = 0
    host_activations: int = 0
    zero_copy_activations: int = 0
    skipped_activations: int = 0
    substituted_activations: int = 0
    prefetched: int = 0  # started
    prefetches_used: int = 0
    prefetches_cancelled: int = 0
    prefetches_promoted: int = 0
    misses_caused: int = 0
    accesses: int = 0
    access_hits: int = 0
    bytes_h2d: int = 0
    copied_bytes: int = 0  # of those, layers that are copied whole
    stall_ns: int = 0
    barrier_ns: int = 0
    cpu_wait_ns: int = 0
    dropped: int = 0
    lost_weight: int = 0  # gate weight of dropped choices, in units of 2**-24
    weight: int = 0  # of all choices
    skipped_rows: int = 0  # choices of experts that were skipped
    host_hits: int = 0  # experts wanted from host memory that were there
    storage_reads: int = 0  # and those that were read into it
    bytes_storage: int = 0  # in so many bytes
    storage_reads_ahead: int = 0  # for prefetches
    storage_reads_used: int = 0  # of which an activation used so many
    skipped_weight: int = 0  # and their gate weight
    rows_executed: int = 0
    rows_kept: int = 0
    sum_of_largest_rows: int = 0  # over (step, MoE layer): the busiest GPU's rows
    largest_shares: list[Fraction] = field(default_factory=list)  # the busiest GPU's, where any
    time_ns: dict[str, int] = field(default_factory=dict)  # CATEGORIES and idle, over GPUs
    gpus: int = 1
    rebalanced: tuple[int, int, int] = (0, 0, 0)  # how often, bytes, GPUs' ns beside passes
    charges: list[list[list[int]]] = field(default_factory=list)  # [step][gpu][category]
    times: list[tuple[list[int], list[int]]] = field(default_factory=list)  # [step], by GPU
    steps: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, int]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Missed experts whose weights come over the link, also in the background."""
        behind = sum(activation.place == "behind" for activation in self.activations)
        out = self.skipped_activations + self.substituted_activations
        return self.misses - self.host_activations - out + behind

    @property
    def hit_ratio_per_expert(self) -> Fraction | None:
        return ratio(self.hits, self.hits + self.late + self.misses)

    @property
    def hit_ratio_per_access(self) -> Fraction | None:
        return ratio(self.access_hits, self.accesses)

    @property
    def padding_ratio(self) -> Fraction | None:
        carried = self.rows_kept - self.skipped_rows
        return ratio(self.rows_executed - carried, self.rows_executed)

    @property
    def balancedness(self) -> Fraction | None:
        """Sum of the mean over GPUs over the sum of the largest."""
        return ratio(self.rows_executed, self.gpus * self.sum_of_largest_rows)

    @property
    def max_load(self) -> Fraction | None:
        return max(self.largest_shares, default=None)

    @property
    def average_max_load(self) -> Fraction | None:
        total = sum(self.largest_shares, start=Fraction(0))
        return total / len(self.largest_shares) if self.largest_shares else None

    @property
    def output_throughput(self) -> Fraction | None:
        return ratio(self.answer_tokens * 1_000_000_000, self.duration_ns)


def ratio(part: int, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole else None
