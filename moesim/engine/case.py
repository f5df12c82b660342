"""Everything that one run of an engine depends on, resolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.config.registry import kind_of
from moesim.engine.captured import Captured, fullest_groups
from moesim.gating.base import Gating
from moesim.hardware.charge import COUNT_BYTES
from moesim.hardware.described.links import Links
from moesim.hardware.described.software import Execution, SoftwareProfile
from moesim.hardware.described.unit_groups import UnitGroups
from moesim.memory.footprint.footprint import stored_bytes
from moesim.memory.footprint.kv_pool import KvPool
from moesim.memory.footprint.shares import Share, whole
from moesim.memory.forms import Flags, Form, flags_of
from moesim.memory.host.host_cache import HostCache
from moesim.memory.misses.base import MissHandling
from moesim.memory.misses.load import Load
from moesim.memory.policy import CachePolicy
from moesim.memory.prefetch.base import Prefetcher
from moesim.memory.prefetch.none import NoPrefetch
from moesim.memory.slots.initial import Initial
from moesim.memory.slots.room import Room
from moesim.memory.variants import Variants
from moesim.model.drafting import Drafter
from moesim.model.spec import FfnSpec, LayerSpec, ModelSpec, kinds_of
from moesim.model.spread import Shared
from moesim.placement.mapping import Placement
from moesim.placement.rebalance import Rebalance
from moesim.trace.routing import Phase, RoutingTrace
from moesim.workload.schedule import Schedule
from moesim.workload.served import PassPhase
from moesim.workload.serving.run import Serving
from moesim.workload.timetable import Scheduler, Timetable


def is_around(ways: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which of these ways leave the caches as they are."""
    around: NDArray[np.bool_] = (ways == AROUND) | (ways == WHOLE)
    return around


LOAD, NO_PREFETCH = Load(), NoPrefetch()
THROUGH, AROUND, WHOLE, APART = range(4)
"""Ways of a pass's experts, see ``Case.ways``."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ExpertKernels = Literal["grouped", "serial", "batched", "block_sparse"]
"""How experts become kernels (docs/semantics.md)."""


class Prices(Protocol):
    """Prices in integer nanoseconds; ``moesim.hardware.CostModel`` is the one that ships.

    ``price`` gives those of any operation by its kind; some have a method of their own here,
    since experts, copies and exchanges ask for them.
    """

    def price(self, kind: str, /, *shape: Any) -> Ints: ...  # noqa: D102
    def experts_ns(  # noqa: D102
        self, layer: LayerSpec, rows: Ints, starts: Ints, /, *tokens: Ints
    ) -> Ints: ...
    def copy_ns(  # noqa: D102
        self, amount: int, direction: Literal["h2d", "d2h"], pinned: bool = True, copies: int = 1, /
    ) -> int: ...
    def all_to_all_ns(self, matrix: Ints, /) -> Ints: ...  # noqa: D102
    def provenance(self, kind: str, price_ns: Ints | Floats, /, *shape: Any) -> Floats: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Case(Shared):
    """One run.

    ``slots``: int64[gpus, MoE layers] (at least the local experts: all of them resident).
    ``links``: the links that copies cross where some are shared, else None: every copy then has its
    own way. ``prefill``: how the experts of prefill passes go through the caches, or around them;
    ``stream_from``: prompt tokens from which on passes that may be mixed stream.
    ``nodes``: machines, each with a host. ``group``: neighbouring GPUs that share attention, dense
    networks and shared experts; ``model`` is then what one of them holds. ``slices``: neighbouring
    GPUs that each hold a part of all their experts, those of ``model``, and run all their rows; 1:
    experts are whole, and ``placement`` has as many holders as GPUs. ``reduces``: every GPU has all
    tokens, runs the rows of its own whole experts, and an all-reduce adds up what comes of them
    (where ``group`` is 1: a reduce-scatter, behind an all-gather). ``once``, ``dispatch_dtype``: of
    rows that are dispatched, see ``Shared``; those of a gating that pads go to each expert.
    ``scheduler``: what says
    during the run which passes there are; ``schedule`` is then not played. ``host_start_ns``: what
    the host takes to begin with its experts of a layer, once a pass. ``host_cache``: host memory is
    one, of what storage holds, None where it holds all experts. ``stages``: GPUs that hold
    consecutive layers each and work one after the other, as one GPU of the clock; else empty.
    ``bandwidths``: bytes a second of a GPU's copies, and at which its host reads experts.
    ``protect``: whether a step evicts what it needs itself only where nothing else is left.
    ``variants``: the formats of every expert, of which ``model`` and ``slots`` say the first; None
    where there is one. ``verifies``: decode steps verify drafts, be they none; ``drafter``: what
    makes these, None where that is free. ``captured``: what is captured of passes that differ,
    None: all run as ``execution`` says, else those that wait for copies or for the host.
    ``pool_bytes`` int64[gpus]: what a pool by bytes holds, None where slots say it. ``serving``:
    the requests that are served, None where the passes are those of batches. ``kv_pool``: what is
    set aside for their keys and values, None: what passes need. ``rebalance``: how experts, all of
    them resident, get other places than ``placement`` during the run. ``exchanges``: whether slots
    change places with blocks of keys and values, so that no layer is resident for good.
    ``unit_groups``: of a near-memory device, None where it computes one expert after the other.
    """

    trace: RoutingTrace
    model: ModelSpec
    prices: Prices
    software: SoftwareProfile
    schedule: Schedule
    gating: Gating
    placement: Placement
    gpus: int
    slots: Ints
    policy: CachePolicy
    miss: MissHandling = LOAD
    kernels: ExpertKernels = "grouped"
    order: Literal["id", "resident_first", "least_makespan"] = "id"
    initial: Initial = "empty"
    seed: int = 0
    execution: Execution = "eager"
    decide: Literal["host", "device"] = "host"
    links: Links | None = None
    prefill: Literal["cache", "bypass", "stream"] = "cache"
    stream_from: int = 0
    prefetch: Prefetcher = NO_PREFETCH
    nodes: int = 1
    group: int = 1
    slices: int = 1
    reduces: bool = False
    once: bool = False
    dispatch_dtype: str | None = None
    scheduler: Scheduler | None = None
    host_start_ns: int = 0
    host_cache: HostCache | None = None
    stages: tuple[Share, ...] = ()
    bandwidths: tuple[int, int] = (1, 1)
    protect: Literal["step", "none"] = "step"
    variants: Variants | None = None
    verifies: bool = False
    drafter: Drafter | None = None
    captured: Captured | None = None
    kv_pool: KvPool | None = None
    pool_bytes: Ints | None = None
    serving: Serving | None = None
    rebalance: Rebalance | None = None
    exchanges: bool = False
    unit_groups: UnitGroups | None = None

    @property
    def executes_decode(self) -> Execution:
        """How decode steps are launched, but for those that are too large to be captured."""
        return self.execution if self.captured is None else self.captured.decode

    def executions(self, first: int, last: int) -> list[Execution]:
        """How passes first:last are launched."""
        if self.captured is None:
            return [self.execution] * (last - first)
        if self.gpus == self.group:
            fullest = np.diff(self.schedule.offsets[first : last + 1])
        else:
            fullest = fullest_groups(self.schedule.between(first, last), self.gpus, self.group)
        return self.captured.executions(self.schedule.phase[first:last], fullest)

    def launched_as(self, execution: Execution) -> Case:
        """The case of which all passes are launched so."""
        return replace(self, execution=execution, captured=None)

    def refuse_unknown_passes(self) -> None:
        """Raises InputError where something has to know passes that a scheduler has yet to
        yield.
        """
        if self.scheduler is not None and self.policy.looks_ahead:
            raise InputError(
                f"experts.policy: '{kind_of(type(self.policy))}' looks ahead, but this batching"
                " reads the clock, and says only then what comes next; write a policy that does"
                " not, as lru, or a batching that is known beforehand, as static"
            )

    def opened(self, ended: Callable[[], Ints]) -> Case:
        """The case as an engine plays it: its scheduler, if it has one, has begun, and is told when
        GPUs have ``ended`` their passes, int64[gpus] in ns.

        Raises InputError as ``refuse_unknown_passes``.
        """
        self.refuse_unknown_passes()
        if self.scheduler is None:
            return self
        return replace(self, schedule=Timetable(self.scheduler, ended))

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """What each GPU's memory holds: a stage, or all layers."""
        return self.stages or whole(self.model, self.gpus)

    def room(self, gpu: int) -> Room | None:
        """What the one pool of ``gpu`` holds, where the experts of its layers differ in bytes; None
        where it has slots.
        """
        if self.policy.scope != "global":
            return None
        sizes = np.array([layer.moe.expert.bytes for layer in self.model.moe_layers if layer.moe])
        if (sizes == sizes[:1]).all():
            return None
        limit = self.slots[gpu] @ sizes if self.pool_bytes is None else self.pool_bytes[gpu]
        return Room(int(limit), np.repeat(sizes, len(self.local_experts(gpu))))

    @property
    def forms(self) -> tuple[Form, ...]:
        """How activations are served: a table by number."""
        return self.miss.forms if self.variants is None else self.variants.forms

    @property
    def stored(self) -> Ints:
        """Bytes that host memory and storage hold of an expert, int64[MoE layers, variants]."""
        if self.variants is not None:
            return self.variants.stored
        return np.array(stored_bytes(self.model), np.int64)[:, None]

    @property
    def beside(self) -> str:
        """The operation that prices experts computed beside the GPU."""
        return "near_expert" if self.miss.near_memory else "cpu_expert"

    @property
    def flags(self) -> Flags:
        """What its forms are, by number."""
        return flags_of(self.forms)

    @property
    def skips(self) -> bool:
        """Whether experts may be left out."""
        return bool(self.flags.nowhere.any())

    def ways(self, first: int, last: int) -> NDArray[np.int8]:
        """How the experts of passes first:last meet the caches, int8[last - first]: ``THROUGH``
        them; ``AROUND``, each through staging buffers; ``WHOLE``, layer by layer; or ``APART``:
        those that a decoded token chooses through, all others around.
        """
        ways = np.zeros(last - first, np.int8)
        if (least := self.miss.copies_all_from()) is not None:
            ways[np.diff(self.schedule.offsets[first : last + 1]) >= least] = AROUND
        if self.prefill == "cache":
            return ways
        phase, whole = self.schedule.phase[first:last], self.prefill == "stream"
        ways[phase == Phase.PREFILL] = WHOLE if whole else AROUND
        if (served := self.schedule.served) is not None:
            ways[phase == Phase.PREFILL] = AROUND
            ways[phase == PassPhase.MIXED] = APART
            offsets = self.schedule.offsets[first : last + 1]
            prompts = np.add.reduceat(~served.decodes[: offsets[-1]], offsets[:-1], dtype=np.int64)
            ways[whole & (prompts >= self.stream_from) & (prompts > 0)] = WHOLE
        return ways

    @property
    def may_bypass(self) -> bool:
        """Whether passes may leave the caches as they are."""
        return self.prefill != "cache" or self.miss.copies_all_from() is not None

    @property
    def bypassed(self) -> NDArray[np.bool_]:
        """By pass, whether it leaves the caches as they are."""
        return is_around(self.ways(0, self.schedule.passes))

    def local_experts(self, gpu: int) -> Ints:
        """The physical experts of ``gpu`` in every MoE layer, ascending."""
        return np.flatnonzero(self.placement.gpu_of_expert == gpu // self.slices)

    def of_senders(self, tokens: Ints) -> Ints:
        """Sums int64[..., senders] of values int64[..., gpus]."""
        if self.sharing == 1:
            return tokens
        sums: Ints = tokens.reshape(*tokens.shape[:-1], self.senders, self.sharing).sum(axis=-1)
        return sums

    def resident(self, gpu: int) -> NDArray[np.bool_]:
        """By MoE layer, whether its experts on ``gpu`` are all resident from the start."""
        resident: NDArray[np.bool_] = self.slots[gpu] >= len(self.local_experts(gpu))
        return resident & (not self.exchanges)

    @cached_property
    def offloaded_layers(self) -> NDArray[np.bool_]:
        """By MoE layer, whether some GPU does not hold all its experts."""
        held: NDArray[np.bool_] = np.all([self.resident(gpu) for gpu in range(self.gpus)], axis=0)
        return ~held

    @cached_property
    def divided_layers(self) -> NDArray[np.bool_]:
        """By MoE layer, whether some GPU holds a part of its experts alone, so that what a pass
        needs is looked for there: not where all are read in place.
        """
        zero_copy = np.array([layer.zero_copy for layer in self.model.moe_layers], np.bool_)
        divided: NDArray[np.bool_] = self.offloaded_layers & ~zero_copy
        return divided

    @property
    def offloaded(self) -> bool:
        """Whether some GPU does not hold all its experts."""
        return bool(self.offloaded_layers.any())

    @cached_property
    def decided_layers(self) -> NDArray[np.bool_]:
        """By MoE layer, whether copies, splits, the capacity or calls of single experts wait for
        the counts.
        """
        asks = self.senders > 1 or self.kernels == "serial"
        waits: NDArray[np.bool_] = (self.divided_layers | asks) & self.gating.uneven
        chooses = [layer.moe.chooses for layer in self.model.moe_layers if layer.moe]
        return (waits | self.gating.agrees) & np.array(chooses, np.bool_)

    @property
    def needs_decision(self) -> bool:
        """Whether some layer waits for its counts."""
        return bool(self.decided_layers.any())

    @property
    def permutes_beside(self) -> bool:
        """Whether rows are permuted beside the exchange of the counts."""
        return self.gating.uneven and self.senders > 1

    @cached_property
    def exchange_ns(self) -> int:
        """Price of telling every GPU its counts, one for each of the receiver's experts, or its
        largest one.
        """
        if self.senders == 1 or not (self.gating.uneven or self.gating.agrees):
            return 0
        local = np.array([len(self.local_experts(gpu)) for gpu in range(self.gpus)])
        told = np.ones_like(local) if self.gating.agrees else local
        matrix = np.tile(COUNT_BYTES * told, (self.gpus, 1))
        np.fill_diagonal(matrix, 0)
        return int(self.prices.all_to_all_ns(matrix[None])[0])

    @property
    def in_place(self) -> bool:
        """Whether what comes into slots is read there from storage, and nothing is copied."""
        return self.host_cache is not None and self.host_cache.in_place

    def copy_shape(self, expert: FfnSpec) -> tuple[int, Literal["h2d"], bool, int]:
        """What the price of an expert's copy is asked for."""
        software = self.software
        return expert.bytes, "h2d", software.pinned, software.copies_per_expert(expert)

    def expert_copy_ns(self, expert: FfnSpec) -> int:
        """The price of an expert's copy, and of that of the one that gives way where software
        copies it back.
        """
        if self.in_place:
            return 0
        size, way, pinned, copies = self.copy_shape(expert)
        price = self.prices.copy_ns(size, way, pinned, copies)
        if not self.software.copies_back:
            return price
        return price + self.prices.copy_ns(size, "d2h", pinned, copies)

    @property
    def host_copy_ns(self) -> int:
        """Host time to issue the copy of an expert."""
        if self.execution == "graph" or self.in_place:
            return 0
        expert = next(layer.moe.expert for layer in self.model.moe_layers if layer.moe)
        copies = self.software.copies_per_expert(expert)
        return int(self.software.host_per_copy_ns * copies + 0.5)

    @property
    def prefetches(self) -> bool:
        """Whether decisions depend on the clock."""
        return self.prefetch.fetches and self.offloaded

    @property
    def tells_tokens(self) -> bool:
        """Whether the tokens of launches do not follow from their rows: where their choices vary in
        number, but for passes of one token whose rows are not padded; a capacity has room for
        ``top_k`` of each.
        """
        varies = any(layer.moe.varies for layer in self.model.moe_layers if layer.moe)
        if not varies or self.gating.invokes_all:
            return False
        several = self.schedule.grows or (np.diff(self.schedule.offsets) != 1).any()
        return bool(several) or self.kernels == "block_sparse"

    @property
    def prediction_ns(self) -> int:
        """What a prediction takes, 0 where none is made."""
        return int(self.prefetch.cost + 0.5) if self.prefetches else 0

    @cached_property
    def moe_places(self) -> Ints:
        """The MoE layer that each model layer is, int64[model layers], -1: none."""
        is_moe = np.array([layer.moe is not None for layer in self.model.layers])
        return np.where(is_moe, np.cumsum(is_moe) - 1, -1)

    @cached_property
    def moe_kinds(self) -> tuple[list[LayerSpec], Ints]:
        """The MoE layers, in each variant of their experts, that differ in more than their place,
        and which of them each layer is, int64[MoE layers, variants].
        """
        every = [self.model.moe_layers] if self.variants is None else self.variants.layers
        specs, numbers = kinds_of(layer for layers in every for layer in layers)
        return specs, np.ascontiguousarray(np.array(numbers).reshape(len(every), -1).T)

    @cached_property
    def runs_in(self) -> NDArray[np.bool_]:
        """By phase of a pass and model layer, whether it runs."""
        runs = np.zeros((len(PassPhase), len(self.model.layers)), np.bool_)
        for phase in PassPhase:
            runs[phase, [layer.index for layer in self.layers_of(phase)]] = True
        return runs

    def layers_of(self, phase: int) -> tuple[LayerSpec, ...]:
        """The layers that a forward pass of ``phase`` runs."""
        if not self.model.has_encoder:
            return self.model.layers
        stack = "encoder" if phase == Phase.ENCODE else "decoder"
        return tuple(layer for layer in self.model.layers if layer.stack == stack)
