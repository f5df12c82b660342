"""The Experiment: everything that a run depends on, assembled from whatever is registered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from moesim.config.oneof import OneOf
from moesim.config.params import Params
from moesim.config.paths import lookup_folders
from moesim.config.registry import Registry
from moesim.config.shape import WrittenAs
from moesim.config.tokens import Tokens
from moesim.config.units import Bytes, Capacity, ExpertCapacity, KvCapacity, KvRoom, Percent
from moesim.experiment.schema.disaggregation import Disaggregation
from moesim.experiment.schema.parts import checked
from moesim.experiment.schema.variants import PartOfExperts, VariantsOfExperts
from moesim.gating import registry as gatings
from moesim.gating.base import Gating
from moesim.hardware.choice import PARTS, Choice
from moesim.hardware.choice import text_of as machine_text
from moesim.hardware.described.price_list import PriceList
from moesim.hardware.energy import Energy
from moesim.memory.choices import registry as choices
from moesim.memory.choices.base import VariantChoice
from moesim.memory.initial import Initial
from moesim.memory.misses import registry as misses
from moesim.memory.misses.base import MissHandling
from moesim.memory.on_cpu import OnCpu
from moesim.memory.policies import registry as cache_policies
from moesim.memory.policy import CachePolicy
from moesim.memory.prefetch import registry as prefetchers
from moesim.memory.prefetch.base import Prefetcher
from moesim.memory.slots import EqualSlots, SlotsByLayer
from moesim.metrics.service_level import Service
from moesim.model.chosen import text_of
from moesim.model.named import Named, named
from moesim.placement import registry as planners
from moesim.placement.base import Planner
from moesim.trace.transforms import registry as transforms
from moesim.trace.transforms.base import Transform
from moesim.workload.arrivals import registry as arrival_kinds
from moesim.workload.arrivals.base import Arrivals
from moesim.workload.batching import registry as batchings
from moesim.workload.batching.base import AnyBatching
from moesim.workload.binding import BindingChoice, Own
from moesim.workload.lengths import registry as length_kinds
from moesim.workload.lengths.base import Lengths
from moesim.workload.prefill import Prefill
from moesim.workload.routers import registry as routers
from moesim.workload.routers.base import Router
from moesim.workload.speculation import Speculation
from moesim.workload.splits import registry as splits
from moesim.workload.splits.base import Split

NO_TRACE = "auto"


def _default(registry: Registry[Any], kind: str, description: str) -> Any:
    """A field whose default is the component ``kind`` with its own defaults."""
    return Field(
        default_factory=lambda: registry.get(kind)(),  # noqa: PLW0108 (found when it is used)
        description=description,
        json_schema_extra={"default": {"kind": kind}},
    )


class Workload(Params):
    """Which forward passes the trace's requests make."""

    batching: Annotated[AnyBatching, OneOf(batchings)] = _default(
        batchings, "static", "Which requests share a forward pass."
    )
    phase: Literal["decode", "prefill", "all", "encode"] = Field(
        default="decode",
        description="Which tokens are replayed: decode steps, prompts, prompts and then decode "
        "steps, or the encoder's tokens.",
    )
    requests: int | None = Field(
        default=None,
        ge=1,
        description="Only this many requests, the first of the trace, or of a file of arrivals; as "
        "many as that has by default.",
    )
    arrivals: Annotated[Arrivals, OneOf(arrival_kinds)] = _default(
        arrival_kinds, "at_once", "When requests come, under batching: {kind: continuous}."
    )
    lengths: Annotated[Lengths, OneOf(length_kinds)] = _default(
        length_kinds, "trace", "How long prompts and answers are, under continuous batching."
    )
    routing: BindingChoice = Field(
        default=Own(),
        discriminator="kind",
        description="Which requests of the trace give the routing of those that are served: own, "
        "or draw where lengths are not the trace's.",
    )
    context: Tokens | None = Field(
        default=None,
        description="Tokens that every request has in its cache at every decode step, at least, as "
        "in 16k: of memory and of attention's time; by default those of the trace.",
    )
    prefill: Prefill = Field(
        default=Prefill(), description="How prompts are cut, and where their experts go."
    )
    speculative: Speculation | None = Field(
        default=None,
        discriminator="kind",
        description="Drafts that decode steps verify (docs/speculation.md).",
    )

    @property
    def at_once(self) -> int:
        """Requests that run at the same time, as far as is said; two where they come in time."""
        most = self.arrivals.concurrency or 2 if self.batching.serves else self.batching.in_flight
        return min(most, self.requests or most)

    @property
    def told_apart(self) -> int:
        """Requests that have a routing of their own; 0 where they take those that there are."""
        if self.batching.serves and not isinstance(self.routing, Own):
            return 0
        return max(self.at_once, self.requests or 0)

    @model_validator(mode="before")
    @classmethod
    def _with_what_serving_takes(cls, data: Any) -> Any:
        """If nothing else is said, what serves requests runs prompts and answers, and requests
        whose lengths are not the trace's are drawn from it.
        """
        if not isinstance(data, Mapping):
            return data
        told: dict[str, Any] = {}
        if getattr(_component(batchings, data.get("batching")), "serves", False):
            told["phase"] = "all"
        if not getattr(_component(length_kinds, data.get("lengths")), "of_trace", True):
            told["routing"] = {"kind": "draw"}
        return {**told, **data}


def _component(registry: Registry[Any], value: Any) -> Any:
    """The class of a component that is written as keys, or is made."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return registry.components.get(kind) if isinstance(kind, str) else type(value)


class Parallelism(Params):
    """How many GPUs share the work, and how."""

    expert: int = Field(
        default=1, ge=1, description="GPUs that share the experts, those of all nodes together."
    )
    pipeline: int = Field(
        default=1,
        ge=1,
        description="GPUs that hold consecutive layers each, and work one after the other.",
    )
    nodes: int | None = Field(
        default=None,
        ge=1,
        description="Nodes that the GPUs are spread over evenly; else as few as hold them.",
    )
    dense: Literal["data", "tensor"] = Field(
        default="data",
        description="Attention, dense networks and shared experts: whole on every GPU, each for "
        "its own requests (data), or split over the GPUs of a node (tensor).",
    )
    experts: Literal["expert", "tensor"] = Field(
        default="expert",
        description="Experts: whole, each on one of the GPUs (expert), or sliced, a part of each on"
        " every GPU of one node (tensor).",
    )
    exchange: Literal["all_to_all", "all_reduce", "all_gather"] | None = Field(
        default=None,
        description="How tokens and whole experts of several GPUs meet: rows are dispatched and "
        "combined (all_to_all), or every GPU has all tokens and an all-reduce adds up what their "
        "experts make of them (all_reduce), as engines do under dense: tensor on one node; that is "
        "the default there, with dynamic gating. Under dense: data every GPU may gather all "
        "tokens, and a reduce-scatter adds up (all_gather).",
    )


class HostMemory(Params):
    """Host memory as a cache of the experts that storage holds."""

    capacity: Capacity = Field(
        default=ExpertCapacity("all", 1),
        description="Room for experts in each node's host memory: bytes ('48 GiB') or a share of "
        "all experts ('50 %'), 'auto': what else the host has, 'all': nothing is read, or 'none': "
        "all that GPUs miss is read.",
    )
    policy: Annotated[CachePolicy, OneOf(cache_policies)] = _default(
        cache_policies, "lru", "Which expert of the host makes room for one that is read."
    )
    reads: int = Field(default=1, ge=1, le=1024, description="Requests that read an expert.")
    path: Literal["auto", "direct", "mmap"] = Field(
        default="auto",
        description="Reads of the engine's own, or page faults of a mapped file: by default what "
        "the software does, as far as it is known of the drive what page faults reach.",
    )
    chunk: Annotated[Bytes, Field(gt=0)] | None = Field(
        default=None,
        description="An expert's copy to the GPU follows its read in chunks of so many bytes; by "
        "default it waits for the whole.",
    )
    layers_ahead: int | None = Field(
        default=None,
        ge=0,
        le=1024,
        description="Whole layers are read in order, so many ahead of the one that runs; the rest "
        "of 'capacity' keeps the first layers for good. By default a cache, which reads what is "
        "missing.",
    )

    @field_validator("capacity", mode="before")
    @classmethod
    def _or_none(cls, capacity: object) -> object:
        return ExpertCapacity("none", 0) if capacity == "none" else capacity

    @field_validator("capacity")
    @classmethod
    def _of_all_layers(cls, capacity: ExpertCapacity) -> ExpertCapacity:
        if capacity.kind == "slots":
            what = "is of a GPU's layers; the host's room is one for all of them"
            raise ValueError(f"'{capacity}' {what}: write '48 GiB', '50 %', 'auto', 'all', 'none'")
        return capacity


class Experts(Params):
    """Where experts live, and how they are computed."""

    capacity: Capacity = Field(
        default=ExpertCapacity("all", 1),
        description="Room for experts on each GPU: slots for each MoE layer ('8 slots/layer'), "
        "bytes ('12 GiB') or a share of its experts ('25 %') over all layers, 'auto': what is left "
        "of the GPU's memory, or 'all': resident from the start.",
    )
    slots: EqualSlots | SlotsByLayer = Field(
        default=EqualSlots(),
        discriminator="kind",
        description="Which MoE layers get the slots: all as many, or more where they save misses.",
    )
    on_cpu: OnCpu = Field(
        default=OnCpu(),
        description="MoE layers whose experts the host holds and computes; 'capacity' is that of "
        "the others.",
    )
    host: HostMemory = Field(
        default_factory=HostMemory,
        description="Host memory, where it does not hold all experts: the rest is in storage.",
    )
    policy: Annotated[CachePolicy, OneOf(cache_policies)] = _default(
        cache_policies, "lru", "Which resident expert makes room for a missing one."
    )
    prefetch: Annotated[Prefetcher, OneOf(prefetchers)] = _default(
        prefetchers, "none", "Which experts are copied before they are needed."
    )
    miss: Annotated[MissHandling, OneOf(misses)] = _default(
        misses, "load", "What is done about a needed expert that is not resident."
    )
    variants: VariantsOfExperts | None = Field(
        default=None,
        description="Formats in which every expert is kept, high, low and perhaps middle, each with"
        " slots of its own (docs/variants.md); by default one.",
    )
    parts: Annotated[dict[str, PartOfExperts], AfterValidator(checked)] | None = Field(
        default=None,
        description="Parts of which every expert is the sum, by any name: shares of its neurons, "
        "each in a format or of a rank of its own, some of it always on the GPU (docs/parts.md).",
    )
    choose: Annotated[VariantChoice, OneOf(choices)] | None = Field(
        default=None,
        description="Which variant of an expert a forward pass wants; by default gate_cumulative.",
    )
    kernels: Literal["grouped", "serial", "batched", "block_sparse"] = Field(
        default="grouped",
        description="One kernel for several experts (grouped), one an expert (serial), one "
        "batched product of equal rows (batched), or one over rows padded to 128 (block_sparse).",
    )
    order: Literal["id", "resident_first", "least_makespan"] = Field(
        default="id",
        description="Execution order of a layer's experts: by id; residents first, then by id; or, "
        "under the policy stream, those with most rows first.",
    )
    protect: Literal["step", "none"] = Field(
        default="step",
        description="Whether experts that a forward pass needs in a layer are evicted for others of"
        " it only where no other is left (step), or as the policy says (none).",
    )
    initial: Initial = Field(
        default="empty",
        description="What the slots hold at the start: nothing, the trace's most used experts, the"
        " first ones of each layer, or drawn ones.",
    )


class Memory(Params):
    """A GPU's memory where requests are served: what is set aside for keys and values."""

    gpu_memory_utilization: Percent = Field(
        default=0.9, description="The share of a GPU's memory that the engine takes."
    )
    block_size: int = Field(default=16, ge=1, le=4096, description="Tokens of a block.")
    kv: KvRoom = Field(
        default=KvCapacity("auto"),
        description="Room for keys and values on each GPU: what all else leaves (auto), blocks "
        "('2588 blocks', as the engine prints them), or bytes ('12 GiB').",
    )
    prefix_caching: bool = Field(
        default=True,
        description="Full blocks are found again by their content, as long as nothing else took "
        "their place.",
    )
    split: Annotated[Split, OneOf(splits)] = _default(
        splits, "static", "Whether slots of experts and blocks change places as the run goes."
    )


class Serving(Service):
    """What clients are promised, and the engines that share their requests."""

    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Engines like this one, each on machines of its own, that share the requests.",
    )
    router: Annotated[Router, OneOf(routers)] = _default(
        routers, "round_robin", "Which of the replicas gets a request."
    )
    disaggregation: Disaggregation | None = Field(
        default=None,
        description="Prompts and answers on engines of their own, as in {prefill: 1, decode: 1}.",
    )
    price_interval: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether times of requests that come by the clock have an interval by what "
        "prices may be off by, for which the run is played twice more: of runs of up to half a "
        "million tokens, always, or never.",
    )

    @property
    def alone(self) -> bool:
        """Whether one engine serves all."""
        return self.replicas == 1 and self.disaggregation is None


class Quality(Params):
    """How good answers are, as the user measured it."""

    table: str = Field(
        min_length=1,
        description="A CSV file with the columns lowered_share (the share of gate weight in a worse"
        " format, 0 to 1, ascending) and perplexity, or another number under its own name.",
    )


def _name_or_base(schema: dict[str, Any]) -> None:
    """``model``: a name, or a base with a format."""
    name = {key: schema.pop(key) for key in ("type", "minLength")}
    keys = {"base": {"type": "string"}, "format": {"type": ["string", "object"]}}
    both = {"type": "object", "properties": keys, "required": list(keys)}
    schema["anyOf"] = [name, both]


def _name_or_parts(schema: dict[str, Any]) -> None:
    """``hardware``: a name, or parts, each a name or numbers."""
    name = {key: schema.pop(key) for key in ("type", "minLength")}
    keys: dict[str, Any] = {"base": {"type": "string"}, "peers": {"enum": ["nvlink", "pcie"]}}
    keys |= {part: {"type": ["string", "object"]} for part in PARTS}
    schema["anyOf"] = [name, {"type": "object", "properties": keys, "additionalProperties": False}]


class Experiment(Params):
    """One question to moesim: a trace, a model, a machine and the choices to be judged."""

    name: str = Field(
        default="experiment",
        min_length=1,
        description="The run's name; else the file's. Results go to a folder of that name.",
    )
    model: str = Field(
        min_length=1,
        description="A shipped model ('moesim list models'), the path of a config.json or of a "
        "GGUF file, or one with other formats: {base: qwen3-30b-a3b, format: q4_k_m}.",
        json_schema_extra=_name_or_base,
    )
    hardware: Annotated[str, WrittenAs(Choice)] = Field(
        min_length=1,
        description="A shipped profile ('moesim list hardware'), the path of a profile, or a GPU, a"
        " host and a link: {gpu: rtx-3090, host: ddr4-3200-2ch-64gb, link: pcie4-x16}.",
        json_schema_extra=_name_or_parts,
    )
    trace: str = Field(
        default=NO_TRACE,
        min_length=1,
        description="A shipped trace ('moesim list traces'), the path of one (Parquet) or of the"
        " parameters of a synthetic one (YAML), or "
        "'stand-in:NAME', drawn for the model and scaled from a shipped one; by default the shipped"
        " one of the model, else a stand-in from the nearest.",
    )
    software: str = Field(
        default="ideal",
        min_length=1,
        description="A software profile by name (ideal, hf-eager) or by path: what the framework "
        "adds to the hardware's times.",
    )
    host_layers: int = Field(
        default=0,
        ge=0,
        description="The first so many layers run on the CPU as wholes, with their attention, KV "
        "cache and experts, as those that llama.cpp's -ngl leaves there.",
    )
    offload_layers: int = Field(
        default=0,
        ge=0,
        description="The weights of the first so many layers are in host memory, and each is "
        "copied to the GPU as a whole before it runs, in every pass (Accelerate's CPU offload).",
    )
    execution: Literal["auto", "eager", "piecewise", "splits", "graph"] = Field(
        default="auto",
        description="Kernel launches: as the software makes them (auto), one by one, captured but "
        "for the MoE part, captured between layers that wait for their counts, or all captured.",
    )
    decide: Literal["host", "device"] = Field(
        default="host",
        description="Where splits, misses and calls of single experts are decided; the host waits "
        "for the counts.",
    )
    routing: list[Annotated[Transform, OneOf(transforms)]] = Field(
        default=[],
        description="Rules by which tokens make other choices than the trace recorded, one after "
        "the other: fewer experts a token, or a model without some experts (docs/routing.md).",
    )
    workload: Workload = Field(
        default_factory=Workload, description="Which forward passes the requests make."
    )
    parallelism: Parallelism = Field(
        default=Parallelism(), description="The GPUs, and how the work is spread over them."
    )
    gating: Annotated[Gating, OneOf(gatings)] = _default(
        gatings, "dynamic", "How routed tokens become rows of each expert."
    )
    placement: Annotated[Planner, OneOf(planners)] = _default(
        planners, "contiguous", "Which GPU holds which expert."
    )
    experts: Experts = Field(
        default_factory=Experts, description="Room, eviction, loading and kernels of experts."
    )
    memory: Memory | None = Field(
        default=None,
        description="A GPU's memory where requests are served; by default vLLM's rules, '{}' "
        "(docs/serving.md).",
    )
    serving: Serving | None = Field(
        default=None,
        description="What is promised to clients whose requests are served, as in {slo: {ttft: "
        "500 ms}}: request_goodput and slo_attainment follow; and replicas that share them, as in "
        "{replicas: 4, router: {kind: least_outstanding}}, or instances that prefill and that "
        "decode, {disaggregation: {prefill: 1, decode: 1}} (docs/serving.md).",
    )
    energy: Energy | None = Field(
        default=None,
        description="Joules a token, and grams of CO2: what the machine's parts draw, where it is "
        "not what its files say; '{}' takes these (docs/energy.md).",
    )
    quality: Quality | None = Field(
        default=None,
        description="What a lower format does to answers, by a table of your own; 'moesim plot' "
        "then draws speed against it (docs/variants.md).",
    )
    cost: PriceList | None = Field(
        default=None, description="Dollars a million tokens, by these prices (docs/energy.md)."
    )
    seed: int = Field(default=0, ge=0, description="Seed of all random streams.")
    engine: Literal["auto", "des", "replay"] = Field(
        default="auto", description="The engine: the fastest that is exact (auto), or by name."
    )
    records: Literal["summary", "step", "layer", "expert"] = Field(
        default="layer", description="The finest records that are kept."
    )
    warm_up: Percent = Field(
        default=0.1, description="Share of the steps, from the start, left out of 'after_warm_up'."
    )
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None,
        description="Axes: a dotted path (or several, joined by commas, that change together) and "
        "the list of its values. 'moesim sweep' runs all combinations, 'moesim run' the base.",
    )
    figures: list[Any] = Field(
        default=[],
        description="Figures that 'moesim plot' draws ('moesim list figures'): names, or kinds with"
        " their parameters, as in {kind: metric_over_axis, metric: mean_tpot_ms, over: capacity}.",
        json_schema_extra={
            "items": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["kind"]}]}
        },
    )

    _folders: tuple[Path, ...] = PrivateAttr(default=())

    @field_validator("model", "hardware", "software", mode="before")
    @classmethod
    def _name_of_digits(cls, name: Any) -> Any:
        """A name that YAML reads as a number, as in 'hardware: 4090'."""
        return str(name) if type(name) is int else name

    @field_validator("model", mode="before")
    @classmethod
    def _with_format(cls, model: Any) -> Any:
        """A base and its format as one name."""
        return text_of(model) if isinstance(model, Mapping) else model

    @field_validator("hardware", mode="before")
    @classmethod
    def _of_parts(cls, hardware: Any) -> Any:
        """A machine chosen by its parts as one name."""
        return machine_text(hardware) if isinstance(hardware, Mapping) else hardware

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if "/" in name or "\\" in name or not name.strip("."):
            raise ValueError("names a folder of results, so it holds no '/' and is not '.' or '..'")
        if not name.isprintable():
            raise ValueError("names a folder of results, so it holds no control character")
        return name

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where relative paths are looked up: the file's folder, the working one, the shipped
        data.
        """
        return self._folders or lookup_folders()

    @property
    def named(self) -> Named:
        """The model in moesim's own words, where a repository or Ollama's library has the name."""
        return named(self.model, self.folders)

    def looked_up_in(self, folders: tuple[Path, ...]) -> Experiment:
        """The experiment with its relative paths looked up in ``folders``."""
        copy = self.model_copy()
        copy._folders = folders  # noqa: SLF001 (its own class)
        return copy

    def with_default_trace(self, name: str) -> Experiment:
        """The experiment with a ``trace`` that its file does not name."""
        copy = self.model_copy(update={"trace": name})
        copy.model_fields_set.discard("trace")
        return copy
