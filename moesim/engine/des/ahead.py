"""A GPU's decisions where they depend on the clock: activations and prefetches of each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from moesim.engine.ahead import At
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.counts import (
    CANCELLED,
    CAUSED,
    HOST_HITS,
    READS_AHEAD,
    READS_USED,
    STARTED,
    STORAGE_READS,
    TAKEN_OVER,
    USED,
)
from moesim.engine.des.copies import CopyGroup, CopyIn
from moesim.engine.des.copy_groups import Ends, Groups
from moesim.engine.des.layer import MoeLayer, launches_of_all
from moesim.engine.des.shelves import Activated, Copied, Shelves
from moesim.engine.des.stored import Read, Stored
from moesim.engine.program import Program
from moesim.engine.residency.layer_slots import LayerSlots
from moesim.engine.residency.storage import read_times
from moesim.memory.activations import ActiveExperts
from moesim.memory.host_residency import HostResidency
from moesim.memory.residency import NOT_BUSY, all_there

Place = tuple[int, int]
"""A pass, and a MoE layer."""
Expert = tuple[int, int]
"""A shelf (a MoE layer, or one in a variant: see ``Shelves``), and an expert within the GPU."""


class Target(NamedTuple):
    """A layer ahead that has slots, what is ``predicted`` for it (see ``Predictions``), and what
    marks an expert as kept ``until`` it is decided.
    """

    place: Place
    predicted: Ints
    until: int


Mask = NDArray[np.bool_]


@dataclass(eq=False, slots=True)
class Prefetch:
    """An ``expert`` (numbered within the GPU) copied ahead for a MoE layer, into slots of
    ``shelf``.
    """

    shelf: int
    expert: int
    group: CopyGroup
    read: Read | None = None
    evicted: bool = False
    promoted: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is in the queue of prefetches."""
        return not (self.group.begun or self.promoted or self.evicted)

    @property
    def copying(self) -> bool:
        """Whether it waits or is being copied."""
        return not self.group.done.processed and (self.waits or self.started)

    @property
    def started(self) -> bool:
        """Whether its copy was made."""
        return self.group.begun or self.promoted


class Queued(NamedTuple):
    """The copies of a layer's activations: by launch, which wait for each other's ends; how many
    misses prefetches had ``caused``, how many are ``loads``, those to submit, in order, with their
    experts, and the prefetches that were ``used``.
    """

    groups: Groups
    ends: Ends
    caused: int
    loads: int
    submitted: list[tuple[CopyGroup, int]]
    used: list[Prefetch]


class Ahead:
    """Decides for GPU ``gpu``, as its layers are known, and queues its copies; experts of launches
    are ``named`` where spans are kept.
    """

    def __init__(
        self, env: simpy.Environment, case: Case, gpu: int, program: Program, copy_in: CopyIn,
        *, named: bool,
    ) -> None:  # fmt: skip
        self.named = named
        self.env, self.case, self.gpu, self.copy_in = env, case, gpu, copy_in
        self.work = program.work
        layers = len(case.model.moe_layers)
        self.local = len(case.local_experts(gpu))
        self.residencies, self.shelves = program.residencies, Shelves(case, gpu, program)
        self.layers, self.slots = layers, self.shelves.slots
        self.meant: dict[Place, list[Prefetch]] = defaultdict(list)
        self.latest: dict[Expert, Prefetch] = {}
        self.by_prefetch: set[Expert] = set()
        self.under_way: list[Prefetch] = []
        self.unused: dict[Expert, Prefetch] = {}
        self.program, self.stored = program, self._stored(program)
        self.waits: tuple[list[int], int] = [], 0
        self.host_hits = self.reads = 0
        self.overlaps, self.budget = case.software.overlap, case.prefetch.budget
        self.before = case.prefetch.before_pass
        self.launches = [launches_of_all(case, layer, gpu) for layer in range(layers)]

    def _stored(self, program: Program) -> Stored | None:
        """What is read from storage; None where host memory holds all experts."""
        if program.storage is None:
            return None
        host = program.storage.hosts[self.gpu // (self.case.gpus // self.case.nodes)]
        assert isinstance(host, HostResidency), "it answers"
        given = (program.routing, host, read_times(self.case), self.copy_in.look)
        return Stored(self.env, self.case, self.gpu, *given)

    def decide(
        self, chunk: Chunk, table: Ints, layer: MoeLayer, index: int
    ) -> tuple[Groups, Ends, int]:
        """The activations of ``layer`` in pass ``index`` of ``chunk``, now: its copies by launch,
        which wait for each other's ends, and how many copies the host issues. They are counted in
        ``table``, as ``Tally`` has it.
        """
        undecided, moe, step = chunk.undecided, layer.moe_index, chunk.first + index
        assert undecided is not None, "what is decided beforehand needs no clock"
        key, place, where = (moe, self.gpu), (step, moe), (index, moe, self.gpu)
        here = undecided.active[key].here(index)
        active, meant = undecided.active[key].at(here), list[Prefetch]()
        if self.slots[moe] is None:
            activated = self._all_there(moe, active.needed)
        else:
            at = undecided.asked[key].at(here)
            meant = self._end(place, at)
            activated = self.shelves.activate(step, moe, at)
        activations, served, _ = activated
        laid, ns = self.work.of_pass(key, active, served, table[index : index + 1])
        copies = self._copies(place, activated, laid.loaded, self._known(meant))
        if len(undecided.served):
            undecided.served[(*where, activations.expert)] = activations.form
        if self.stored is not None:
            self._read(self.stored, place, activated, copies.submitted)
        for of_launch in copies.groups.values():
            if len(of_launch) > 1:
                of_launch.sort(key=lambda group: not group.begun)
        for group, _ in copies.submitted:
            self.copy_in.submit(group)
        layer.append_pass(index, ns, self.launches[moe])
        if self.named:
            layer.name(laid, activations)
        self._count(table[where], moe, meant, copies)
        issues = 0 if self.before else self._issue(chunk, where, activated, copies.loads)
        return copies.groups, copies.ends, copies.loads + issues

    def _all_there(self, layer: int, active: ActiveExperts) -> Activated:
        activations = all_there(active, serial=self.case.kernels == "serial", hit=True)
        late = np.zeros(len(active.experts), np.bool_)
        return Activated.of(activations, late, [layer] * len(late))

    def _known(self, meant: list[Prefetch]) -> dict[Expert, Prefetch]:
        """Those that a layer may use for which some were ``meant``."""
        if self.before:
            return self.unused
        return {(one.shelf, one.expert): one for one in meant if not one.evicted}

    def load(self, chunk: Chunk, index: int) -> list[Prefetch]:
        """Queue what is predicted before pass ``index`` of ``chunk``, if it is one of those."""
        step = chunk.first + index
        if not self.case.prefetch.before_pass or step % self.case.prefetch.every:
            return []
        assert chunk.undecided is not None, "see decide"
        predictions = chunk.undecided.predictions
        coming = predictions.coming(index)
        targets = self._targets(chunk, 0, [(0, at, layer) for at, layer in coming])
        self.unused.clear()
        for place, _, _ in targets:
            for of_layer in self.shelves.of_layer[place[1]]:
                of_layer.stand_before(step)
        self._pin_there(targets)
        queued: list[Prefetch] = []
        for place, predicted, until in targets:
            for shelf, expert in self.shelves.named(place[1], predicted):
                slots = self.slots[shelf]
                assert slots is not None, "it is a target"
                affords = self.budget is None or self._affords(shelf, self.budget)
                if self.shelves.there(shelf, expert) is None and affords:
                    victim = slots.prefetch(expert, until)
                    if victim is not None:
                        one = self._prefetch(place, (shelf, expert), victim)
                        one.group.index = len(queued)
                        queued.append(one)
                        self.unused[shelf, expert] = one
        self._pin_there(targets)
        self.waits = [], self._read_before(step, queued)
        for one in queued:
            self.copy_in.submit(one.group)
        return queued

    def _pin_there(self, targets: list[Target]) -> list[list[Expert]]:
        """Keep what is predicted and in a slot; returns what is in none."""
        pin = self.shelves.pin
        return [pin(place[1], predicted, until) for place, predicted, until in targets]

    def _targets(
        self, chunk: Chunk, index: int, ahead: Iterable[tuple[int, int, int]]
    ) -> list[Target]:
        """What is predicted for layers ``ahead`` of pass ``index`` of the ``chunk``: by origin, how
        many passes later they are, and the layer.
        """
        assert chunk.undecided is not None, "see decide"
        predicted, targets = chunk.undecided.predictions.of, list[Target]()
        for origin, later, layer in ahead:
            if self.slots[layer] is not None:
                at = index + later
                step = chunk.first + at
                experts = predicted(origin, at, layer, self.gpu)
                targets.append(Target((step, layer), experts, self._until(step, layer)))
        return targets

    def _read_before(self, step: int, queued: list[Prefetch]) -> int:
        """Read what is ``queued`` before pass ``step``; until when the pass waits for that."""
        if self.stored is None:
            return 0
        until = self.stored.before(step, {(one.shelf, one.expert): one.group for one in queued})
        for one in queued:
            one.read = self.stored.reads.get((one.shelf, one.expert))
        return until

    def _read(
        self, stored: Stored, place: Place, activated: Activated,
        submitted: list[tuple[CopyGroup, int]],
    ) -> None:  # fmt: skip
        """Read what the activations of ``place`` want, before whose end no copy of what is
        ``submitted`` starts, nor a launch, nor the host.
        """
        activations, late = activated.activations, activated.served.late
        layer, flags = place[1], self.case.flags
        wants = ~activations.hit & ~flags.nowhere[activations.form]
        queued = [e for e in activations.expert[late].tolist() if stored.queued((layer, e))]
        self.host_hits, self.reads = stored.want(*place, activations.expert[wants].tolist(), queued)
        for group, expert in submitted:
            group.unread, group.there = False, stored.may_copy((layer, expert))
        launches = [0] * (int(activations.launch.max(initial=-1)) + 1)
        of_host = 0
        on_host = ~activations.hit & flags.on_host[activations.form]
        for i in np.flatnonzero(wants | late).tolist():
            until = stored.until((layer, int(activations.expert[i])))
            if on_host[i]:
                of_host = max(of_host, until)
            else:
                launch = activations.launch[i]
                launches[launch] = max(launches[launch], until)
        self.waits = launches, of_host

    def _count_reads(
        self, counts: Ints, layer: int, meant: list[Prefetch], used: list[Prefetch]
    ) -> None:
        assert self.program.storage is not None, "experts are read from it"
        ahead, of_used = (
            sum(one.read is not None and one.read.begun for one in some) for some in (meant, used)
        )
        counts[HOST_HITS], counts[READS_AHEAD], counts[READS_USED] = self.host_hits, ahead, of_used
        counts[STORAGE_READS] = self.reads + ahead
        self.program.storage.reads[layer] += self.reads + ahead

    def _count(self, counts: Ints, layer: int, meant: list[Prefetch], copies: Queued) -> None:
        used = copies.used
        counts[CAUSED], counts[USED] = copies.caused, len(used)
        if self.stored is not None:
            self._count_reads(counts, layer, meant, used)
        if not (meant or used):
            return
        started = [one for one in meant if one.started]
        counts[STARTED], counts[CANCELLED] = len(started), len(meant) - len(started)
        counts[TAKEN_OVER] = sum(one.promoted for one in meant)
        by_variant = self._by_variant(started)
        if (variants := self.shelves.count) > 1:
            counts[-2 * variants :] = [*by_variant, *self._by_variant(used)]
        self.work.count_copies(layer, by_variant)

    def _by_variant(self, prefetches: list[Prefetch]) -> list[int]:
        if self.shelves.count == 1:
            return [len(prefetches)]
        found = [one.shelf // self.layers for one in prefetches]
        return [found.count(variant) for variant in range(self.shelves.count)]

    def _end(self, place: Place, at: At) -> list[Prefetch]:
        """Cancel prefetches that wait and will not serve what is needed ``at`` a pass, and lift the
        layer's pins; returns all that were meant for it.
        """
        meant = self.meant.pop(place, [])
        waiting = [one for one in meant if one.waits]
        serving = self.shelves.serving(place[1], at) if waiting else {}
        for one in waiting:
            if serving.get(one.expert) != one.shelf:
                self._cancel(one)
                slots = self.slots[one.shelf]
                assert slots is not None, "it has a slot"
                slots.cancel(one.expert)
                del self.latest[one.shelf, one.expert]
        until = self._until(*place)
        for slots in self.shelves.of_layer[place[1]]:
            slots.unpin(until)
        return meant

    def _cancel(self, one: Prefetch) -> None:
        self.copy_in.withdraw(one.group)
        one.evicted = True
        if self.stored is not None:
            self.stored.cancel((one.shelf, one.expert))

    def _key(self, shelf: int, number: int) -> Expert:
        """The shelf and expert of ``number`` in the pool of ``shelf``."""
        slots, (layer, expert) = self.slots[shelf], divmod(number, self.local)
        assert slots is not None, "it has a pool"
        return shelf - slots.place + layer, expert

    def _evict(self, key: Expert) -> None:
        """The expert ``key`` has lost its slot."""
        self.by_prefetch.discard(key)
        self.unused.pop(key, None)
        if one := self.latest.pop(key, None):
            if one.waits:
                self._cancel(one)
            one.evicted = True

    def _copies(
        self,
        place: Place,
        activated: Activated,
        loaded: NDArray[np.bool_],
        known: dict[Expert, Prefetch],
    ) -> Queued:
        """The copies of the activations, promoted ones among them; evictions are followed. Those
        ``known`` that activations hit leave it.
        """
        groups: Groups = defaultdict(list)
        ends: Ends = {}
        submitted: list[tuple[CopyGroup, int]] = []
        used: list[Prefetch] = []
        (step, layer), loads, caused = place, 0, 0
        of_form, overlaps = self.shelves.copied[layer], self.overlaps
        pooled, forms = self.slots[layer] is not None, len(of_form) > 1
        columns = [one.tolist() for one in (*activated.activations, activated.served.late, loaded)]
        for shelf, expert, hit, launch, wait, victim, form, is_late, is_loaded in zip(
            activated.shelves, *columns, strict=True
        ):
            if is_late:
                group, waited = self._awaited((shelf, expert))
                groups[launch].append(group)
                submitted += [(group, expert)] * waited
            if hit:
                if known and (one := known.pop((shelf, expert), None)) is not None:
                    used.append(one)
                continue
            caused += (shelf, expert) in self.by_prefetch
            if victim >= 0 and pooled:
                self._evict(self._key(shelf, victim))
            if is_loaded:
                until = wait if overlaps else max(wait, launch - 1)
                after = ends.setdefault(until, self.env.event()) if until >= 0 else None
                group = self._copy(step, of_form[form if forms else 0], expert)
                group.index, group.after = loads, after
                submitted.append((group, expert))
                groups[launch].append(group)
                loads += 1
        return Queued(groups, ends, caused, loads, submitted, used)

    def _awaited(self, key: Expert) -> tuple[CopyGroup, bool]:
        """The copy that a late activation waits for, promoted if it had not begun, and whether it
        was.
        """
        one, now = self.latest[key], int(self.env.now)
        if waits := one.waits:
            self.copy_in.withdraw(one.group)
            one.promoted, one.group.known = True, max(one.group.known, now)
        return one.group, waits

    def _copy(self, step: int, copied: Copied, expert: int) -> CopyGroup:
        """Of ``expert``, in a pass, known now."""
        return CopyGroup(
            1, copied.amount, copied.copy_ns, int(self.env.now), 0, simpy.Event(self.env),
            layer=copied.layer, step=step, experts=[copied.names[expert]],
        )  # fmt: skip

    def _issue(
        self, chunk: Chunk, where: tuple[int, int, int], activated: Activated, loads: int
    ) -> int:
        """Prefetch for the layers ahead; returns for how many experts, after ``loads`` copies."""
        assert chunk.undecided is not None, "see decide"
        index, source, _ = where
        predictions, issued, host_ns = chunk.undecided.predictions, 0, self.copy_in.host_ns
        targets = self._targets(chunk, index, predictions.issued_at(index, source))
        queued = list[Prefetch]()
        for (place, _, until), missing in zip(targets, self._pin_there(targets), strict=True):
            busy: dict[int, Mask] = {}
            for shelf, expert in missing:
                slots = self.slots[shelf]
                assert slots is not None, "it is a target"
                if self.budget is None or self._affords(shelf, self.budget):
                    if shelf not in busy:
                        busy[shelf] = self._busy(shelf, source, activated)
                    victim = slots.prefetch(expert, until, busy[shelf])
                    if victim is not None:
                        issued += 1
                        one = self._prefetch(place, (shelf, expert), victim)
                        one.group.known += (loads + issued) * host_ns
                        one.group.ahead = True
                        queued.append(one)
            if missing and self.case.prefetch.stop == "first_missing":
                break
        if self.stored is not None:
            self._read_ahead(self.stored, (chunk.first + index, source), queued)
        if queued:
            self.copy_in.prefetch(*(one.group for one in queued))
        return issued

    @staticmethod
    def _read_ahead(stored: Stored, place: Place, queued: list[Prefetch]) -> None:
        """Read what was ``queued`` at ``place`` and is not in memory."""
        stored.ahead(*place, {(one.shelf, one.expert): one.group for one in queued})
        for one in queued:
            one.read = stored.reads.get((one.shelf, one.expert))

    def _until(self, step: int, layer: int) -> int:
        """What marks an expert as kept until then."""
        return step * self.layers + layer + 1

    def _busy(self, shelf: int, source: int, activated: Activated) -> Mask:
        """bool[experts of the pool of ``shelf``]: those that the layer just decided needs; nothing
        where that has a pool of its own.
        """
        slots, one = self.slots[shelf], shelf - shelf % self.layers + source
        assert slots is not None, "it has a pool"
        own = self.slots[one]
        if own is None or own.cache is not slots.cache:
            return NOT_BUSY
        busy = np.zeros(len(slots.cache.resident), np.bool_)
        needed = activated.activations.expert[np.array(activated.shelves, np.int64) == one]
        busy[needed + own.first] = True
        return busy

    def _affords(self, shelf: int, budget: int) -> bool:
        """Whether one more expert of ``shelf`` is within the ``budget``."""
        self.under_way = [one for one in self.under_way if one.copying]
        used = sum(one.group.amount for one in self.under_way)
        return used + self.shelves.ahead(shelf).amount <= budget

    def _prefetch(self, place: Place, expert: Expert, victim: int) -> Prefetch:
        """The copy of ``expert`` over ``victim``, which is to be queued."""
        if victim >= 0:
            key = self._key(expert[0], victim)
            self._evict(key)
            self.by_prefetch.add(key)
        group = self._copy(place[0], self.shelves.ahead(expert[0]), expert[1])
        one, slots = Prefetch(*expert, group), self.slots[expert[0]]
        assert slots is not None, "it has a slot now"
        self.latest[expert] = one
        self.meant[place].append(one)
        if self.budget is not None:
            self.under_way.append(one)
        group.done.callbacks.append(lambda _: self._arrived(one, slots))
        return one

    def _arrived(self, one: Prefetch, slots: LayerSlots) -> None:
        if self.latest.get((one.shelf, one.expert)) is one:
            slots.arrived(one.expert)
            del self.latest[one.shelf, one.expert]
