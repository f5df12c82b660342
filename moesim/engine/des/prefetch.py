"""A GPU's decisions where they depend on the clock: activations and prefetches of each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

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
from moesim.engine.des.layer import MoeLayer
from moesim.engine.des.shelves import Activated, Shelves
from moesim.engine.des.stored import Read, Stored
from moesim.engine.prefetch import Asked
from moesim.engine.pricing.host_times import launches_of_all
from moesim.engine.program import Program
from moesim.engine.residency.storage import read_times
from moesim.memory.activations import ActiveExperts
from moesim.memory.host.host_residency import HostResidency
from moesim.memory.slots.residency import NOT_BUSY, all_there

Place = tuple[int, int]
"""A pass, and a MoE layer."""
Expert = tuple[int, int]
"""A shelf (a MoE layer, or one in a variant: see ``Shelves``), and an expert within the GPU."""


Target = tuple[Place, Ints, int]
"""A layer ahead that has slots, what is predicted for it (see ``Predictions``), and what marks an
expert as kept until it is decided."""
Mask = NDArray[np.bool_]


class Prefetch(CopyGroup):
    """An expert copied ahead into the slots of its ``key``, for a MoE layer."""

    read: Read | None = None
    evicted = promoted = False
    key: Expert

    @property
    def waits(self) -> bool:
        """Whether it is in the queue of prefetches."""
        return not (self.begun or self.promoted or self.evicted)

    @property
    def copying(self) -> bool:
        """Whether it waits or is being copied."""
        return not self.processed and (self.waits or self.started)

    @property
    def started(self) -> bool:
        """Whether its copy was made."""
        return self.begun or self.promoted


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


class OnTheClock:
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
        self.now = self.host_hits = self.reads = 0
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

    def begin(self, chunk: Chunk, step: int) -> None:
        """Pass ``step`` begins, of ``chunk``: the policy does so anew where none of its requests
        was in the pass before.
        """
        assert chunk.undecided is not None, "see decide"
        if chunk.undecided.restarts[step - chunk.first]:
            for (_, gpu), cache in self.residencies.caches.items():
                if gpu == self.gpu:
                    self.case.policy.start_request(cache.state, step)

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
        self.now, here = int(self.env.now), undecided.here(key, index)
        active, meant = undecided.active[key].at(here), list[Prefetch]()
        if self.slots[moe] is None:
            activated = self._all_there(moe, active.needed)
        else:
            at = undecided.asked[key].at(here)
            meant = self._end(place, at)
            activated = self.shelves.activate(step, moe, at)
        activations, late, _ = activated
        laid, prices = self.work.of_pass(key, active, activations, late, table[index : index + 1])
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
        layer.append_pass(index, prices, laid.read.tolist(), self.launches[moe])
        layer.place(laid, activations, np.array(prices.hosted_ns))
        if self.named:
            layer.name(laid, activations)
        self._count(table[where], moe, meant, copies)
        issues = 0 if self.before else self._issue(chunk, where, activated, copies.loads)
        return copies.groups, copies.ends, copies.loads + issues

    def _all_there(self, layer: int, active: ActiveExperts) -> Activated:
        activations = all_there(active, serial=self.case.kernels == "serial", hit=True)
        late = np.zeros(len(active.experts), np.bool_)
        return Activated(activations, late, [layer] * len(late))

    def _known(self, meant: list[Prefetch]) -> dict[Expert, Prefetch]:
        """Those that a layer may use for which some were ``meant``."""
        if self.before:
            return self.unused
        return {one.key: one for one in meant if not one.evicted}

    def load(self, chunk: Chunk, index: int) -> list[Prefetch]:
        """Queue what is predicted before pass ``index`` of ``chunk``, if it is one of those."""
        step = chunk.first + index
        if not self.case.prefetch.before_pass or step % self.case.prefetch.every:
            return []
        assert chunk.undecided is not None, "see decide"
        self.now, coming = int(self.env.now), chunk.undecided.predictions.coming(index)
        targets = self._targets(chunk, 0, [(0, at, layer) for at, layer in coming])
        self.unused.clear()
        for (_, layer), _, _ in targets:
            for of_layer in self.shelves.of_layer[layer]:
                of_layer.stand_before(step)
        self._pin_there(targets)
        queued = list[Prefetch]()
        for place, predicted, until in targets:
            for shelf, expert in self.shelves.named(place[1], predicted):
                affords = self.budget is None or self._affords(shelf, self.budget)
                if self.shelves.there(shelf, expert) is None and affords:
                    victim = self.shelves.pools[shelf].prefetch(expert, until)
                    if victim is not None:
                        one = self._prefetch(place, (shelf, expert), victim)
                        one.index = len(queued)
                        queued.append(one)
                        self.unused[one.key] = one
        self._pin_there(targets)
        self.waits = [], self._read_ahead((step, 0), queued, waits=True)
        for one in queued:
            self.copy_in.submit(one)
        return queued

    def _pin_there(self, targets: list[Target]) -> None:
        """Keep what is predicted and in a slot."""
        for (_, layer), predicted, until in targets:
            self.shelves.pin(layer, predicted, until)

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
                step = chunk.first + index + later
                experts = predicted(origin, index + later, layer, self.gpu)
                targets.append(((step, layer), experts, self._until(step, layer)))
        return targets

    def _read_ahead(self, place: Place, queued: list[Prefetch], *, waits: bool = False) -> int:
        """Read what was ``queued`` at ``place`` and is not in memory; until when a pass that
        ``waits`` for that does.
        """
        if self.stored is None:
            return 0
        until = self.stored.ahead(*place, {one.key: one for one in queued}, waits=waits)
        for one in queued:
            one.read = self.stored.reads.get(one.key)
        return until

    def _read(
        self, stored: Stored, place: Place, activated: Activated,
        submitted: list[tuple[CopyGroup, int]],
    ) -> None:  # fmt: skip
        """Read what the activations of ``place`` want, before whose end no copy of what is
        ``submitted`` starts, nor a launch, nor the host.
        """
        activations, late, _ = activated
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
        found = [one.key[0] // self.layers for one in prefetches]
        return [found.count(variant) for variant in range(self.shelves.count)]

    def _end(self, place: Place, at: Asked) -> list[Prefetch]:
        """Cancel prefetches that wait and will not serve what is needed ``at`` a pass, and lift the
        layer's pins; returns all that were meant for it.
        """
        meant = self.meant.pop(place, [])
        waiting = [one for one in meant if one.waits]
        serving = self.shelves.serving(place[1], at) if waiting else {}
        for one in waiting:
            shelf, expert = one.key
            if serving.get(expert) != shelf:
                self._cancel(one)
                self.shelves.pools[shelf].cancel(expert)
                del self.latest[one.key]
        until = self._until(*place)
        for slots in self.shelves.of_layer[place[1]]:
            slots.open(until)
        return meant

    def _cancel(self, one: Prefetch) -> None:
        self.copy_in.withdraw(one)
        one.evicted = True
        if self.stored is not None:
            self.stored.cancel(one.key)

    def _key(self, shelf: int, number: int) -> Expert:
        """The shelf and expert of ``number`` in the pool of ``shelf``."""
        layer, expert = divmod(number, self.local)
        return shelf - self.shelves.pools[shelf].place + layer, expert

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
        experts, hits, launches, *of_misses = activated.activations
        lates, hits = activated.late.tolist(), hits.tolist()
        told = [hits] * 4  # nobody asks for them of hits
        if not all(hits):
            told = [one.tolist() for one in (*of_misses, loaded)]
        for shelf, expert, hit, launch, is_late, wait, victim, form, is_loaded in zip(
            activated.shelves, experts.tolist(), hits, launches.tolist(), lates, *told, strict=True
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
                copied = of_form[form if forms else 0]
                group = CopyGroup(self.env, 1, copied.amount, copied.copy_ns, self.now, loads)
                if self.named:
                    group.bring(step, copied.layer, copied.names[expert])
                if until >= 0:
                    group.after = ends.setdefault(until, self.env.event())
                submitted.append((group, expert))
                groups[launch].append(group)
                loads += 1
        return Queued(groups, ends, caused, loads, submitted, used)

    def _awaited(self, key: Expert) -> tuple[CopyGroup, bool]:
        """The copy that a late activation waits for, promoted if it had not begun, and whether it
        was.
        """
        one = self.latest[key]
        if waits := one.waits:
            self.copy_in.withdraw(one)
            one.promoted, one.known = True, max(one.known, self.now)
        return one, waits

    def _issue(
        self, chunk: Chunk, where: tuple[int, int, int], activated: Activated, loads: int
    ) -> int:
        """Prefetch for the layers ahead; returns for how many experts, after ``loads`` copies."""
        assert chunk.undecided is not None, "see decide"
        index, source, _ = where
        predictions, issued, host_ns = chunk.undecided.predictions, 0, self.copy_in.host_ns
        targets = self._targets(chunk, index, predictions.issued_at(index, source))
        queued, pin = list[Prefetch](), self.shelves.pin
        lacking = [pin(layer, predicted, until) for (_, layer), predicted, until in targets]
        for (place, _, until), missing in zip(targets, lacking, strict=True):
            if not missing:
                continue
            busy: dict[int, Mask] = {}
            for key in missing:
                shelf, expert = key
                if self.budget is None or self._affords(shelf, self.budget):
                    if shelf not in busy:
                        busy[shelf] = self._busy(shelf, source, activated)
                    victim = self.shelves.pools[shelf].prefetch(expert, until, busy[shelf])
                    if victim is not None:
                        issued += 1
                        one = self._prefetch(place, key, victim)
                        one.known += (loads + issued) * host_ns
                        one.ahead = True
                        queued.append(one)
            if self.case.prefetch.stop == "first_missing":
                break
        self._read_ahead((chunk.first + index, source), queued)
        if queued:
            self.copy_in.prefetch(*queued)
        return issued

    def _until(self, step: int, layer: int) -> int:
        """What marks an expert as kept until then."""
        return step * self.layers + layer + 1

    def _busy(self, shelf: int, source: int, activated: Activated) -> Mask:
        """bool[experts of the pool of ``shelf``]: those that the layer just decided needs; nothing
        where that has a pool of its own.
        """
        one = shelf - shelf % self.layers + source
        own, cache = self.slots[one], self.shelves.pools[shelf].cache
        if own is None or own.cache is not cache:
            return NOT_BUSY
        busy = np.zeros(len(cache.resident), np.bool_)
        needed = activated.activations.expert[np.array(activated.shelves, np.int64) == one]
        busy[needed + own.first] = True
        return busy

    def _affords(self, shelf: int, budget: int) -> bool:
        """Whether one more expert of ``shelf`` is within the ``budget``."""
        self.under_way = [one for one in self.under_way if one.copying]
        used = sum(one.amount for one in self.under_way)
        return used + self.shelves.ahead[shelf].amount <= budget

    def _prefetch(self, place: Place, key: Expert, victim: int) -> Prefetch:
        """The copy of an expert over ``victim``, which is to be queued."""
        if victim >= 0:
            lost = self._key(key[0], victim)
            self._evict(lost)
            self.by_prefetch.add(lost)
        copied = self.shelves.ahead[key[0]]
        one = Prefetch(self.env, 1, copied.amount, copied.copy_ns, self.now, 0)
        one.key = key
        if self.named:
            one.bring(place[0], copied.layer, copied.names[key[1]])
        self.latest[key] = one
        self.meant[place].append(one)
        if self.budget is not None:
            self.under_way.append(one)
        one.callbacks.append(self._arrived)
        return one

    def _arrived(self, one: simpy.Event) -> None:
        assert isinstance(one, Prefetch), "it calls nobody else"
        if self.latest.get(one.key) is one:
            shelf, expert = one.key
            self.shelves.pools[shelf].arrived(expert)
            del self.latest[one.key]
