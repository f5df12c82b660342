"""A layer's prices on one GPU as plain lists, which an event loop reads faster than arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints, is_around
from moesim.engine.chunk import NONE, Chunk, Work
from moesim.engine.des.unit_groups import PartOf
from moesim.engine.layout import Layout
from moesim.engine.pricing.host_times import HostTimes, launches_of_all, wait_ns
from moesim.engine.pricing.ragged_launches import LaunchPrices
from moesim.engine.pricing.terms import Term
from moesim.engine.residency.storage import ReadTimes
from moesim.hardware.charge import Stage
from moesim.hardware.described.unit_groups import UnitGroups
from moesim.memory.activations import Activations
from moesim.memory.host.host_cache import Reads
from moesim.placement.mapping import Placement


class TermOnGpu(NamedTuple):
    """The number of a term's category, the name of its spans, its nanoseconds by pass."""

    category: int
    name: str
    ns: list[int]


Stages = list[list[TermOnGpu]]
"""Terms on one GPU by ``Stage``."""
NOTHING_READ = Reads([0], [], [], [], [])


@dataclass(frozen=True, eq=False, slots=True)
class DenseLayer:
    """A layer without experts: its terms, and what the host launches."""

    index: int
    terms: Stages
    hosts: HostTimes


@dataclass(frozen=True, eq=False, slots=True)
class MoeLayer:
    """A MoE layer on one GPU; lists by pass, and offsets by pass into launches and copies. What
    follows from activations is appended as they are decided.

    ``terms`` by stage; ``hosts``: what the host launches. ``host_launches``: kernels of experts
    that it launches. ``activation_expert``, ``launch_activation`` and ``copy_expert`` name them.
    ``filled``: by how many a pass has more experts in slots. ``copied``: the price and bytes of
    each copy, where they are of variants. ``stored``: what is read from storage, with its times.
    ``streamed``: in which passes its copies, of all experts, come ahead. ``read_ns``: what reading
    over the link adds to a launch, ``read``: of how many experts; ``hosted_ns``: prices of the
    host's experts, ``hosted_expert``: their names, whose rows take ``down_ns`` and ``up_ns`` a
    pass; ``hosted_parts``: the group and the parts of each where there are ``unit_groups``.
    ``copy_ns``: price of one expert's copy, ``amount`` its bytes; ``sync_ns``: the wait for
    the counts; ``exchange_ns``: the count exchange, 0 where there is none.
    """

    index: int
    moe_index: int
    terms: Stages
    hosts: HostTimes
    dispatch: list[int]
    combine: list[int]
    copy_ns: int
    amount: int
    sync_ns: int
    exchange_ns: int
    names: NDArray[np.object_]
    sizes: Ints
    unit_groups: UnitGroups | None = None
    step_launches: list[int] = field(default_factory=lambda: [0])
    host_launches: list[int] = field(default_factory=list)
    kernel_ns: list[int] = field(default_factory=list)
    read_ns: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    step_hosted: list[int] = field(default_factory=lambda: [0])
    hosted_ns: list[int] = field(default_factory=list)
    hosted_expert: list[str] = field(default_factory=list)
    hosted_parts: list[PartOf] = field(default_factory=list)
    down_ns: list[int] = field(default_factory=list)
    up_ns: list[int] = field(default_factory=list)
    step_copies: list[int] = field(default_factory=lambda: [0])
    copy_launch: list[int] = field(default_factory=list)
    copy_wait: list[int] = field(default_factory=list)
    activation_expert: list[str] = field(default_factory=list)
    launch_activation: list[int] = field(default_factory=lambda: [0])
    copy_expert: list[str] = field(default_factory=list)
    streamed: list[bool] = field(default_factory=list)
    stored: Reads = NOTHING_READ
    filled: list[int] = field(default_factory=list)
    copied: list[tuple[int, int]] = field(default_factory=list)

    def append(self, work: Work, host_launches: Ints, bypassed: NDArray[np.bool_]) -> None:
        """The work of all passes; ``host_launches`` int64[passes], ``bypassed`` bool[passes] that
        leave the slots as they are.
        """
        laid, one = work.laid, work.activations
        self.step_launches.extend(laid.step_launches[1:].tolist())
        self.step_hosted.extend(laid.step_hosted[1:].tolist())
        self.step_copies.extend(laid.step_copies[1:].tolist())
        self.host_launches.extend(host_launches.tolist())
        self.kernel_ns.extend(work.kernel_ns.tolist())
        self.read_ns.extend(work.read_ns.tolist())
        self.read.extend(laid.read.tolist())
        self.down_ns.extend(work.moved_ns[0].tolist())
        self.up_ns.extend(work.moved_ns[1].tolist())
        self.hosted_ns.extend(work.hosted_ns.tolist())
        self.place(laid, one, work.hosted_ns)
        self.name(laid, one)
        if len(laid.copied):
            self._append_copies(work)
        self.streamed.extend(work.streamed.tolist())
        free = laid.loaded if work.evicted is not None else laid.loaded & (one.victim < 0)
        so_far = np.concatenate(([0], np.cumsum(free)))[work.active_experts.offsets]
        more = np.diff(so_far) - (0 if work.evicted is None else work.evicted)
        self.filled.extend(np.where(bypassed, 0, more).tolist())

    def append_pass(
        self, index: int, prices: LaunchPrices, read: list[int], calls: int | None
    ) -> None:
        """What pass ``index`` alone takes, whose copies are queued as it is decided; ``read`` as in
        ``Layout``, ``calls`` as ``launches_of_all`` has it.
        """
        skipped = index - len(self.host_launches)  # passes before it that do not run the layer
        if skipped:
            for offsets in (self.step_launches, self.step_hosted):
                offsets.extend(offsets[-1:] * skipped)
            for values in (self.host_launches, self.down_ns, self.up_ns):
                values.extend([0] * skipped)
        kernel_ns, read_ns, hosted_ns, (down_ns, up_ns) = prices
        self.step_launches.append(self.step_launches[-1] + len(kernel_ns))
        self.step_hosted.append(self.step_hosted[-1] + len(hosted_ns))
        self.host_launches.append(len(kernel_ns) if calls is None else calls)
        self.kernel_ns.extend(kernel_ns)
        self.read_ns.extend(read_ns)
        self.read.extend(read)
        self.down_ns.extend(down_ns)
        self.up_ns.extend(up_ns)
        self.hosted_ns.extend(hosted_ns)

    def place(self, laid: Layout, one: Activations, hosted_ns: Ints) -> None:
        """In which groups of units the host's experts of passes lie that were appended last."""
        if self.unit_groups is None or not len(hosted_ns):
            return
        experts, rows = one.expert[laid.hosted], laid.rows[laid.hosted]
        parts = self.unit_groups.of(experts, rows, hosted_ns).tolist()
        self.hosted_parts.extend(zip(*parts, strict=True))

    def name(self, laid: Layout, one: Activations) -> None:
        """Name the experts of launches, and of the host, of passes that were appended last."""
        ends = np.append(laid.starts[1:], len(laid.on_gpu)) if len(laid.starts) else laid.starts
        self.launch_activation.extend((ends + self.launch_activation[-1]).tolist())
        of_gpu = one.form[laid.on_gpu] if len(self.names) > 1 else 0
        self.activation_expert.extend(self.names[of_gpu, one.expert[laid.on_gpu]].tolist())
        self.hosted_expert.extend(self.names[0, one.expert[laid.hosted]].tolist())

    def _append_copies(self, work: Work) -> None:
        laid = work.laid
        self.copy_launch.extend(laid.copy_launch.tolist())
        self.copy_wait.extend(laid.copy_wait.tolist())
        brought = work.copied if len(self.names) > 1 else 0
        self.copy_expert.extend(self.names[brought, laid.copied].tolist())
        sizes = self.sizes[work.copied].tolist()
        self.copied.extend(zip(work.copy_ns.tolist(), sizes, strict=True))

    def reads(self, index: int) -> int:
        """How many experts are read from storage in a pass."""
        return int(self.stored.steps[index + 1] - self.stored.steps[index])

    def busy_ns(self, index: int) -> int:
        """How long the reads of a pass keep the drive."""
        last = self.stored.steps[index + 1] - 1
        return int(self.stored.ends[last]) if self.reads(index) else 0

    def read_end(self, index: int, begin: int, read: int) -> int:
        """When ``read`` of those of a pass, which ``begin`` then, is in host memory; 0 without
        one.
        """
        if read < 0:
            return 0
        place = self.stored.steps[index] + read
        return int(begin + self.stored.ends[place] + self.stored.after[place])

    def host_has(self, index: int, begin: int) -> int:
        """When the host has all experts that it computes, of reads that ``begin`` then."""
        return self.read_end(index, begin, self.stored.host[index]) if self.stored.host else 0

    def launches_have(self, index: int, begin: int) -> list[int]:
        """By launch of a pass, when host memory has what it or its copies wait for; 0 if it had."""
        low, high = self.step_launches[index], self.step_launches[index + 1]
        last = self.stored.launch[low:high]
        for copy in range(self.step_copies[index], self.step_copies[index + 1]):
            if (launch := self.copy_launch[copy]) >= 0:
                last[launch] = max(last[launch], self.stored.copy[copy])
        return [self.read_end(index, begin, read) for read in last]

    def hosted(self, index: int) -> list[int]:
        """The prices of the host's experts in a pass."""
        return self.hosted_ns[self.step_hosted[index] : self.step_hosted[index + 1]]

    def experts_of_launch(self, launch: int) -> str:
        """The experts that run in ``launch`` of the chunk, with commas between."""
        return ",".join(
            self.activation_expert[
                self.launch_activation[launch] : self.launch_activation[launch + 1]
            ]
        )


def layers_on(
    chunk: Chunk, case: Case, gpu: int, hosts: Sequence[HostTimes], times: ReadTimes
) -> list[DenseLayer | MoeLayer]:
    """The layers of ``chunk`` on ``gpu``, in order; ``hosts``: the host's times of each;
    ``times`` of reads.
    """
    layers: list[DenseLayer | MoeLayer] = []
    moe_index, categories = 0, chunk.terms.categories
    copy_ns, sync_ns = cache(case.expert_copy_ns), wait_ns(case, gpu)
    for layer in case.model.layers:
        terms = on_gpu(chunk.terms.of(layer.index), categories, gpu)
        of_host = hosts[layer.index]
        if layer.moe is None:
            layers.append(DenseLayer(layer.index, terms, of_host))
            continue
        expert = layer.moe.expert
        moe = moe_index
        placed = MoeLayer(
            index=layer.index,
            moe_index=moe,
            terms=terms,
            hosts=of_host,
            dispatch=chunk.dispatch[moe].tolist() if chunk.dispatch else [],
            combine=chunk.combine[moe].tolist() if chunk.combine else [],
            copy_ns=copy_ns(expert),
            amount=expert.bytes,
            sync_ns=of_host.waits * sync_ns,
            exchange_ns=case.exchange_ns,
            names=names_of(case, moe_index, gpu, chunk.placement),
            unit_groups=case.unit_groups,
            sizes=NONE if case.variants is None else case.variants.sizes[moe],
            stored=_in_lists(chunk.work.get((moe, gpu)), *(ns[moe : moe + 1] for ns in times)),
        )
        if chunk.undecided is None:
            work = chunk.work[moe, gpu]
            ways = case.ways(chunk.first, chunk.first + chunk.passes)
            placed.append(work, host_launches(case, work, moe, gpu), is_around(ways))
        layers.append(placed)
        moe_index += 1
    return layers


def _in_lists(work: Work | None, *times: Ints) -> Reads:
    """What ``work`` reads, if it does, as lists; its ``times`` where all reads are alike."""
    if work is None or (reads := work.reads) is None:
        return NOTHING_READ
    timed = reads if len(reads.ends) else reads.timed(*times)
    return Reads(*(one.tolist() for one in timed))


def names_of(
    case: Case, moe_index: int, gpu: int, placement: Placement | None = None
) -> NDArray[np.object_]:
    """What records call the experts of ``gpu`` [variants, experts]: with ``:`` and the variant
    behind the number, but for the first one; ``placement``: where they are, None: as in ``case``.
    """
    names, variants = (placement or case.placement).names(moe_index, gpu // case.slices), [""]
    if (of := case.variants) is not None:
        every = ["", *(f":{name}" for name in of.names[1:]), ""]
        variants = [every[variant] for variant in of.variant_of.tolist()]
    return np.array([[f"{name}{variant}" for name in names] for variant in variants], object)


def on_gpu(terms: Iterable[Term], categories: tuple[str, ...], gpu: int) -> Stages:
    """``terms`` on one GPU, those that take time."""
    stages: Stages = [[] for _ in Stage]
    for term in terms:
        if any(ns := term.ns[:, gpu].tolist()):
            stages[term.stage].append(TermOnGpu(categories.index(term.category), term.name, ns))
    return stages


def host_launches(case: Case, work: Work, moe_index: int, gpu: int) -> Ints:
    """Launches int64[passes] of experts' kernels: a launch each, or every local expert where the
    software calls empty ones too.
    """
    launches: Ints = np.diff(work.laid.step_launches)
    calls = launches_of_all(case, moe_index, gpu)
    return launches if calls is None else np.full_like(launches, calls)
