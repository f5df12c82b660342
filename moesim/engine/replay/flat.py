"""A case and its chunks as the arrays that the compiled clock reads."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Beside, Chunk, Work
from moesim.engine.pricing.host_times import (
    host_head_ns,
    host_times,
    launches_of_all,
    wait_ns,
)
from moesim.engine.pricing.terms import Terms
from moesim.engine.replay.clock.one_gpu import Launched
from moesim.engine.replay.clock.records import (
    BEFORE_GATE,
    FIRST_STAGE,
    MOE,
    Fixed,
    Passes,
    StorageReads,
    Works,
)
from moesim.engine.replay.clock.unit_groups import all_gathered, room_for
from moesim.engine.residency.storage import read_times
from moesim.hardware.charge import Stage
from moesim.memory.host.host_cache import Reads
from moesim.memory.slots.split import DOWN, UP
from moesim.runtime.compiled import code_of, njit, types

if TYPE_CHECKING:
    from moesim.engine.replay.clock.shared import Jobs

Mask = NDArray[np.bool_]
NONE = np.empty(0, np.int64)
NO_TABLE = np.empty((0, 0), np.int64)
NO_READS = StorageReads(NO_TABLE, NONE, NONE, NO_TABLE, *[NONE] * 4)
NO_ROWS, NONE_STREAMED = np.empty((0, 0), np.int64), np.empty((0, 0), np.bool_)


class Priced(NamedTuple):
    """The time of stages int64[rows, passes, gpus], the plan that says which layer has which row
    of it (see ``clock_records.Passes``), that of the passes' ends int64[passes, gpus], what all
    of it is charged to, int64[passes, gpus, categories], and which layers run, bool[passes, model
    layers].
    """

    plan: Ints
    stage_ns: Ints
    head: Ints
    charges: Ints
    runs: Mask

    def between(self, first: int, last: int) -> Priced:
        """That of passes first:last."""
        if last - first == len(self.head):
            return self
        stage_ns, here = np.ascontiguousarray(self.stage_ns[:, first:last]), slice(first, last)
        return Priced(self.plan, stage_ns, self.head[here], self.charges[here], self.runs[here])

    def passes(self, phase: NDArray[np.uint8], dispatch: Ints, combine: Ints) -> Passes:
        """The passes, of ``phase`` uint8[passes], as the clock takes them."""
        phase = np.ascontiguousarray(phase)
        return Passes(self.plan, self.runs, phase, self.stage_ns, self.head, dispatch, combine)


class Played(NamedTuple):
    """A run of passes as the clock takes it, the most launches of a work in one of them, what
    its terms are charged to, what goes over shared links, and what moves ``beside`` a lone pass.
    """

    passes: Passes
    works: Works | Launched
    most_launches: int
    charges: Ints
    jobs: Jobs | None = None
    beside: Beside | None = None

    def waiting(self, ns_by_category: dict[int, Ints]) -> Played:
        """That of a lone pass whose GPUs wait int64[gpus] before the gate of its first layer."""
        ns = sum(ns_by_category.values(), start=np.int64(0))
        if not ns.any():
            return self
        plan, stage_ns = self.passes.plan.copy(), self.passes.stage_ns
        row = stage_ns[plan[0, BEFORE_GATE]] + ns
        plan[0, BEFORE_GATE] = len(stage_ns)
        for category, waits in ns_by_category.items():
            self.charges[0, :, category] += waits
        stage_ns = np.concatenate((stage_ns, row[None]))
        return self._replace(passes=self.passes._replace(plan=plan, stage_ns=stage_ns))

    def between(self, first: int, last: int) -> Played:
        """That of passes first:last, which host memory holds all that they need of."""
        if last - first == len(self.charges):
            return self
        here, steps = slice(first, last), slice(first, last + 1)
        plan, runs, phase, stage_ns, head, dispatch, combine = self.passes
        stage_ns, dispatch, combine = (
            np.ascontiguousarray(one[:, here]) for one in (stage_ns, dispatch, combine)
        )
        passes = Passes(plan, runs[here], phase[here], stage_ns, head[here], dispatch, combine)
        assert isinstance(self.works, Works), "passes of one row are launched alike"
        works = self.works._replace(
            step_launches=np.ascontiguousarray(self.works.step_launches[:, steps]),
            step_copies=np.ascontiguousarray(self.works.step_copies[:, steps]),
        )
        return Played(passes, works, self.most_launches, self.charges[here])


def fixed_of(case: Case) -> Fixed:
    """The constants of ``case``."""
    software, hosts = case.software, host_times(case)
    reads = read_times(case)
    waits = [hosts[layer.index].waits for layer in case.model.moe_layers]
    specs = [layer.moe.expert for layer in case.model.moe_layers if layer.moe]
    copy_ns = {expert: case.expert_copy_ns(expert) for expert in dict.fromkeys(specs)}
    blocking = software.blocking and case.execution != "graph"
    each_wait = [wait_ns(case, gpu) for gpu in range(case.gpus)]
    return Fixed(
        hosts=np.array(hosts),
        head=host_head_ns(case),
        copy=case.host_copy_ns,
        blocking=int(blocking),
        overlaps=int(software.overlap),
        streams_ahead=int(case.prefill == "stream" and software.overlap and not blocking),
        exchange=case.exchange_ns,
        agrees=int(case.gating.agrees),
        gathers=int(case.gathers),
        copy_ns=np.array([copy_ns[expert] for expert in specs]),
        wait_ns=np.outer(each_wait, waits),
        always=_always_launched(case),
        read_busy=reads.busy,
        read_after=reads.after,
        read_lead=reads.lead,
        node=np.arange(case.gpus) // (case.gpus // case.nodes),
        rooms=0 if case.host_cache is None else case.host_cache.rooms,
    )


def _always_launched(case: Case) -> Ints:
    """Kernels that the host launches in every pass, by MoE layer and GPU; -1: the launches."""
    works = np.ndindex(len(case.model.moe_layers), case.gpus)
    every = (launches_of_all(case, layer, gpu) for layer, gpu in works)
    return np.array([-1 if calls is None else calls for calls in every])


def played(case: Case, chunk: Chunk) -> Played:
    """``chunk`` in one piece; works that are one have one part of it."""
    works, keys, of_own = parts_of(chunk)
    own = [chunk.work[key] for key in keys]
    phase = case.schedule.phase[chunk.first : chunk.first + chunk.passes]
    none = np.zeros((len(case.model.moe_layers), chunk.passes), np.int64)
    priced = priced_of(case, chunk.terms, phase)
    exchanges = [_by_moe_layer(way, none) for way in (chunk.dispatch, chunk.combine)]
    reads, streams = case.miss.uses_link, case.prefill == "stream"
    hosted = up = NO_ROWS
    if case.flags.on_host.any():
        hosted, up = _hosted(case, works), moved(works, UP)
        if case.miss.copies_behind:  # these make way
            hosted, up = hosted + up, NO_ROWS
    return Played(
        priced.passes(phase, *exchanges),
        Works(
            launch_base=bases([work.kernel_ns for work in own])[of_own],
            step_launches=np.stack([work.laid.step_launches for work in works]),
            kernel_ns=np.concatenate([work.kernel_ns for work in own]),
            read_ns=np.concatenate([work.read_ns for work in own]) if reads else NONE,
            there=NONE,
            copy_base=bases([work.laid.copy_launch for work in own])[of_own],
            step_copies=np.stack([work.laid.step_copies for work in works]),
            copy_launch=np.concatenate([work.laid.copy_launch for work in own]),
            copy_wait=np.concatenate([work.laid.copy_wait for work in own]),
            copy_issued=NONE,
            copy_ns=np.concatenate([NONE, *(work.copy_ns for work in own)]),
            streamed=np.stack([work.streamed for work in works]) if streams else NONE_STREAMED,
            hosted=hosted,
            up=up,
            reads=_reads([work.reads for work in works if work.reads is not None]),
        ),
        max(int(np.diff(work.laid.step_launches).max()) for work in works),
        priced.charges,
        beside=chunk.beside,
    )


def parts_of(chunk: Chunk) -> tuple[list[Work], list[tuple[int, int]], Ints]:
    """The works of ``chunk`` in order; of each that is its own the first (MoE layer, GPU), and
    which of these each is.
    """
    works, first = [chunk.work[key] for key in sorted(chunk.work)], dict[int, tuple[int, int]]()
    for key in sorted(chunk.work):
        first.setdefault(id(chunk.work[key]), key)
    place = {work: number for number, work in enumerate(first)}
    return works, list(first.values()), np.array([place[id(work)] for work in works])


def _reads(works: list[Reads]) -> StorageReads:
    if not works:
        return NO_READS
    steps, _, copy, launch, host, *times, _ = zip(*works, strict=True)
    return StorageReads(
        np.stack(steps), np.concatenate(copy), np.concatenate(launch), np.stack(host),
        bases(list(times[0])), *map(np.concatenate, times),
    )  # fmt: skip


def _by_moe_layer(prices: dict[int, Ints], none: Ints) -> Ints:
    return np.stack([prices[layer] for layer in sorted(prices)]) if prices else none


def bases(parts: list[Ints]) -> Ints:
    """Where each of ``parts`` begins, one behind another."""
    return np.cumsum([0, *(len(part) for part in parts[:-1])])


def _hosted(case: Case, works: list[Work]) -> Ints:
    """How long the rows of ``works`` down and the host's experts take, int64[works, passes]."""
    table, groups = moved(works, DOWN), case.unit_groups
    for work, row in zip(works, table, strict=True):
        laid, hosted_ns = work.laid, work.hosted_ns
        if not len(hosted_ns):
            continue
        if groups is None:
            code_of(_add_up)(laid.step_hosted, hosted_ns, row)
        else:
            experts = work.activations.expert[laid.hosted]
            parts = groups.of(experts, laid.rows[laid.hosted], hosted_ns)
            code_of(_add_groups)(laid.step_hosted, parts, room_for(len(hosted_ns)), row)
    return table


def moved(works: list[Work], way: int) -> Ints:
    """What rows of the host's experts take one ``way`` int64[works, passes]."""
    table = np.zeros((len(works), len(works[0].streamed)), np.int64)
    for work, row in zip(works, table, strict=True):
        if len(work.hosted_ns):
            row[:] = work.moved_ns[way]
    return table


@njit(types.void(*[types.int64[::1]] * 3), cache=True, _nrt=False)
def _add_up(step_hosted: Any, hosted_ns: Any, row: Any) -> None:
    """Add the host's experts to a ``row`` of ``_hosted``."""
    for p in range(len(row)):
        for i in range(step_hosted[p], step_hosted[p + 1]):
            row[p] += hosted_ns[i]


@njit(
    types.void(types.int64[::1], *[types.int64[:, ::1]] * 2, types.int64[::1]), cache=True,
    _nrt=False,
)  # fmt: skip
def _add_groups(step_hosted: Any, parts: Any, room: Any, row: Any) -> None:
    """Add experts on groups of units, whose ``parts`` are as of ``UnitGroups.of``, to a ``row`` of
    ``_hosted``; ``room`` for those of a pass.
    """
    for p in range(len(row)):
        low, high = step_hosted[p], step_hosted[p + 1]
        for i in range(low, high):
            for part in range(len(parts)):
                room[part, i - low] = parts[part, i]
        row[p] += all_gathered(room, high - low)


def priced_of(case: Case, terms: Terms, phase: NDArray[np.uint8]) -> Priced:
    """The ``terms`` of passes of ``phase`` by stage; those of equal layers are kept once, row 0 is
    no time.
    """
    rows, known = [np.zeros_like(terms.head[0].ns)], dict[tuple[int, ...], int]()
    of_alike = np.zeros((len(terms.alike), Stage.HEAD), np.int64)
    for number, own in enumerate(terms.alike):
        for stage in range(Stage.HEAD):
            of_stage = [term.ns for term in own if term.stage == stage]
            key = tuple(map(id, of_stage))
            if of_stage and key not in known:
                known[key] = len(rows)
                rows.append(reduce(np.add, of_stage))
            of_alike[number, stage] = known.get(key, 0)
    plan = np.empty((len(terms.of_layer), FIRST_STAGE + Stage.HEAD), np.int64)
    plan[:, MOE], plan[:, FIRST_STAGE:] = case.moe_places, of_alike[terms.of_layer]
    head: Ints = reduce(np.add, [term.ns for term in terms.head])
    runs = case.runs_in[phase]
    return Priced(plan, np.stack(rows), head, terms.charges(runs), runs)
