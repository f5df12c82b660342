"""Where experts live, and how they are computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from moesim.config.oneof import OneOf, component
from moesim.config.params import Params
from moesim.config.units import Bytes, Capacity, ExpertCapacity
from moesim.experiment.schema.parts import checked
from moesim.experiment.schema.variants import PartOfExperts, VariantsOfExperts
from moesim.memory.choices import registry as choices
from moesim.memory.choices.base import VariantChoice
from moesim.memory.host.on_cpu import OnCpu
from moesim.memory.misses import registry as misses
from moesim.memory.misses.base import MissHandling
from moesim.memory.policies import registry as cache_policies
from moesim.memory.policy import CachePolicy
from moesim.memory.prefetch import registry as prefetchers
from moesim.memory.prefetch.base import Prefetcher
from moesim.memory.slots.initial import Initial
from moesim.memory.slots.slots import EqualSlots, SlotsByLayer


class HostMemory(Params):
    """Host memory as a cache of the experts that storage holds."""

    capacity: Capacity = Field(
        default=ExpertCapacity("all", 1),
        description="Room for experts in each node's host memory: bytes ('48 GiB') or a share of "
        "all experts ('50 %'), 'auto': what else the host has, 'all': nothing is read, or 'none': "
        "all that GPUs miss is read.",
    )
    policy: Annotated[CachePolicy, OneOf(cache_policies)] = component(
        cache_policies, "lru", "Which expert of the host makes room for one that is read."
    )
    reads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Requests that read an expert: by default one, by page faults one a matrix.",
    )
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
    policy: Annotated[CachePolicy, OneOf(cache_policies)] = component(
        cache_policies, "lru", "Which resident expert makes room for a missing one."
    )
    prefetch: Annotated[Prefetcher, OneOf(prefetchers)] = component(
        prefetchers, "none", "Which experts are copied before they are needed."
    )
    miss: Annotated[MissHandling, OneOf(misses)] = component(
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
        json_schema_extra={"default": {"kind": "gate_cumulative"}},
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
