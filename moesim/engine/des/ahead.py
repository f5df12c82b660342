"""A GPU's decisions where they depend on the clock: activations and prefetches of each layer."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

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
from moesim.engine.des.layer import MoeLayer, host_launches
from moesim.engine.des.stored import Read, Stored
from moesim.engine.layer_slots import LayerSlots
from moesim.engine.layer_work import Decided
from moesim.engine.program import Program
from moesim.engine.storage import read_times
from moesim.memory.activations import Activations
from moesim.memory.host_residency import HostResidency
from moesim.memory.residency import all_there

Place = tuple[int, int]
"""A pass, and a MoE layer."""
Targets = list[tuple[Place, LayerSlots, list[int]]]
"""Layers ahead, their slots, and what is predicted for them."""
NOT_STREAMED = np.zeros(1, np.bool_)


@dataclass(eq=False)
class Prefetch:
    """An ``expert`` (numbered within the GPU) copied ahead for MoE layer ``layer``."""

    layer: int
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
        return not self.group.done.triggered and (self.waits or self.started)

    @property
    def started(self) -> bool:
        """Whether its copy was made."""
        return self.group.begun or self.promoted


class Ahead:
    """Decides for GPU ``gpu``, as its layers are known, and queues its copies."""

    def __init__(
        self, env: simpy.Environment, case: Case, gpu: int, program: Program, copy_in: CopyIn
    ) -> None:
        self.env, self.case, self.gpu, self.copy_in = env, case, gpu, copy_in
        self.work = program.work
        layers = len(case.model.moe_layers)
        self.local = len(case.local_experts(gpu))
        self.residencies = program.residencies
        self.slots = [program.residencies.slots_of((layer, gpu)) for layer in range(layers)]
        self.specs = case.model.moe_layers
        self.copy_ns = [self.work.copy_ns[kind] for kind in self.work.kinds]
        self.names = [case.names(layer, gpu) for layer in range(layers)]
        self.meant: dict[Place, list[Prefetch]] = defaultdict(list)
        self.latest: dict[tuple[int, int], Prefetch] = {}
        self.by_prefetch: set[tuple[int, int]] = set()
        self.under_way: list[Prefetch] = []
        self.unused: dict[tuple[int, int], Prefetch] = {}
        self.program, self.stored = program, self._stored(program)
        self.waits: tuple[list[int], int] = [], 0
        self.host_hits = self.reads = 0

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
        assert chunk.undecided is not None, "what is decided beforehand needs no clock"
        asked = chunk.undecided.asked[layer.moe_index, self.gpu]
        experts, *rest = asked.at(index)
        key, place = (layer.moe_index, self.gpu), (chunk.first + index, layer.moe_index)
        active = chunk.undecided.active[key].at(index)
        slots = self.slots[layer.moe_index]
        meant: list[Prefetch] = []
        if slots is None:
            activations = all_there(active.needed, serial=self.case.kernels == "serial", hit=True)
            late = np.zeros(len(experts), np.bool_)
        else:
            meant = self._end(place, slots, experts)
            arriving = slots.arriving()
            activations = slots.decide(place[0], experts, *rest)
            late = activations.hit & arriving[activations.expert]
        valid = {one.expert: one for one in meant if not one.evicted}
        if self.case.prefetch.before_pass:
            valid = {at[1]: one for at, one in self.unused.items() if at[0] == layer.moe_index}
        work = self.work.of({key: Decided(active, activations, NOT_STREAMED, late)})[key]
        hits = activations.expert[activations.hit].tolist()
        for expert in hits:
            self.unused.pop((layer.moe_index, expert), None)
        groups, ends, caused, submitted = self._copies(place, activations, work.laid.loaded, late)
        where = (index, layer.moe_index, self.gpu)
        self._read(place, activations, late, submitted)
        for of_launch in groups.values():
            of_launch.sort(key=lambda group: not group.begun)
        for group, _ in submitted:
            self.copy_in.submit(group)
        layer.skip_to(index)
        layer.append(work, host_launches(self.case, work, layer.moe_index, self.gpu), NOT_STREAMED)
        table[where] = work.laid.counts[0]
        table[where][CAUSED] = caused
        used = [valid[expert] for expert in hits if expert in valid]
        table[where][USED] = len(used)
        if self.stored is not None:
            self._count_reads(table[where], layer.moe_index, meant, used)
        self._count(table[where], layer.moe_index, meant)
        loads = int(work.laid.loaded.sum())
        issues = 0 if self.case.prefetch.before_pass else self._issue(chunk, where, experts, loads)
        return groups, ends, loads + issues

    def load(self, chunk: Chunk, index: int) -> list[Prefetch]:
        """Queue what is predicted before pass ``index`` of ``chunk``, if it is one of those."""
        step = chunk.first + index
        if not self.case.prefetch.before_pass or step % self.case.prefetch.every:
            return []
        assert chunk.undecided is not None, "see decide"
        predictions = chunk.undecided.predictions
        targets = [
            (target, slots, predictions.of(0, target, self.gpu))
            for target in predictions.coming(index)
            if (slots := self.slots[target[1]]) is not None
        ]
        self.unused.clear()
        for _, slots, _ in targets:
            slots.stand_before(step)
        self._pin_there(chunk, targets)
        queued: list[Prefetch] = []
        for target, slots, predicted in targets:
            nobody = np.zeros(len(slots.cache.resident), np.bool_)
            for expert in predicted:
                if expert not in slots and self._affords(target[1]):
                    victim = slots.prefetch(expert, self._pin(chunk, target), nobody)
                    if victim is not None:
                        one = self._prefetch((chunk.first + target[0], target[1]), expert, victim)
                        one.group.index = len(queued)
                        queued.append(one)
                        self.unused[target[1], expert] = one
        self._pin_there(chunk, targets)
        self.waits = [], self._read_before(step, queued)
        for one in queued:
            self.copy_in.submit(one.group)
        return queued

    def _pin_there(self, chunk: Chunk, targets: Targets) -> None:
        """Keep what is predicted and in a slot."""
        for target, slots, predicted in targets:
            for expert in predicted:
                if expert in slots:
                    slots.pin(expert, self._pin(chunk, target))

    def _read_before(self, step: int, queued: list[Prefetch]) -> int:
        """Read what is ``queued`` before pass ``step``; until when the pass waits for that."""
        if self.stored is None:
            return 0
        until = self.stored.before(step, {(one.layer, one.expert): one.group for one in queued})
        for one in queued:
            one.read = self.stored.reads.get((one.layer, one.expert))
        return until

    def _read(
        self,
        place: Place,
        activations: Activations,
        late: NDArray[np.bool_],
        submitted: list[tuple[CopyGroup, int]],
    ) -> None:
        """Read what the activations of ``place`` want, before whose end no copy of what is
        ``submitted`` starts, nor a launch, nor the host.
        """
        if (stored := self.stored) is None:
            return
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

    def _count(self, counts: Ints, layer: int, meant: list[Prefetch]) -> None:
        started = sum(one.started for one in meant)
        counts[STARTED], counts[CANCELLED] = started, len(meant) - started
        counts[TAKEN_OVER] = sum(one.promoted for one in meant)
        self.work.count_copies(layer, started)

    def _end(self, place: Place, slots: LayerSlots, experts: Ints) -> list[Prefetch]:
        """Cancel prefetches that wait and are not needed, and lift the layer's pins; returns all
        that were meant for it.
        """
        meant, needed = self.meant.pop(place, []), set(experts.tolist())
        for one in meant:
            if one.waits and one.expert not in needed:
                self._cancel(one)
                slots.cancel(one.expert)
                del self.latest[place[1], one.expert]
        slots.unpin(self._until(*place))
        return meant

    def _cancel(self, one: Prefetch) -> None:
        self.copy_in.withdraw(one.group)
        one.evicted = True
        if self.stored is not None:
            self.stored.cancel((one.layer, one.expert))

    def _key(self, slots: LayerSlots, number: int) -> tuple[int, int]:
        """The MoE layer and expert of ``number`` in the pool."""
        layer, expert = divmod(number, self.local)
        return self.slots.index(slots) - slots.place + layer, expert

    def _evict(self, key: tuple[int, int]) -> None:
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
        activations: Activations,
        loaded: NDArray[np.bool_],
        late: NDArray[np.bool_],
    ) -> tuple[Groups, Ends, int, list[tuple[CopyGroup, int]]]:
        """The copies of the activations, promoted ones among them, and follow evictions: the copies
        of each launch, how many misses prefetches had caused, and the copies to submit, in order,
        with their experts.
        """
        groups: Groups = defaultdict(list)
        ends: Ends = {}
        submitted: list[tuple[CopyGroup, int]] = []
        (step, layer), loads, caused = place, 0, 0
        slots = self.slots[layer]
        columns = (
            activations.expert,
            activations.hit,
            activations.launch,
            activations.wait,
            loaded,
            activations.victim,
            late,
        )
        for expert, hit, launch, wait, is_loaded, victim, is_late in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            key = (layer, expert)
            if is_late:
                group, waited = self._awaited(key)
                groups[launch].append(group)
                submitted += [(group, expert)] * waited
            caused += not hit and key in self.by_prefetch
            if victim >= 0 and slots is not None:
                self._evict(self._key(slots, victim))
            if is_loaded:
                until = wait if self.case.software.overlap else max(wait, launch - 1)
                after = ends.setdefault(until, self.env.event()) if until >= 0 else None
                group = self._copy((step, layer), expert, int(self.env.now))
                group.index, group.after = loads, after
                submitted.append((group, expert))
                groups[launch].append(group)
                loads += 1
        return groups, ends, caused, submitted

    def _awaited(self, key: tuple[int, int]) -> tuple[CopyGroup, bool]:
        """The copy that a late activation waits for, promoted if it had not begun, and whether it
        was.
        """
        one, now = self.latest[key], int(self.env.now)
        if waits := one.waits:
            self.copy_in.withdraw(one.group)
            one.promoted, one.group.known = True, max(one.group.known, now)
        return one.group, waits

    def _copy(self, place: Place, expert: int, known: int) -> CopyGroup:
        step, layer = place
        spec = self.specs[layer]
        assert spec.moe is not None, "a dense layer has no routed experts"
        return CopyGroup(
            1, spec.moe.expert.bytes, self.copy_ns[layer], known, 0, self.env.event(),
            layer=spec.index, step=step, experts=[self.names[layer][expert]],
        )  # fmt: skip

    def _issue(self, chunk: Chunk, where: tuple[int, int, int], experts: Ints, loads: int) -> int:
        """Prefetch for the layers ahead; returns for how many experts, after ``loads`` copies."""
        assert chunk.undecided is not None, "see decide"
        index, source, gpu = where
        predictions, issued = chunk.undecided.predictions, 0
        targets = [
            (target, slots, predictions.of(predictions.origin(source, distance), target, gpu))
            for distance, target in enumerate(predictions.layers_ahead(index, source), 1)
            if (slots := self.slots[target[1]]) is not None
        ]
        self._pin_there(chunk, targets)
        queued: list[Prefetch] = []
        for target, slots, predicted in targets:
            busy = self._busy(slots, source, experts)
            place = (chunk.first + target[0], target[1])
            missing = [expert for expert in predicted if expert not in slots]
            for expert in missing:
                if self._affords(target[1]):
                    victim = slots.prefetch(expert, self._pin(chunk, target), busy)
                    if victim is not None:
                        issued += 1
                        one = self._prefetch(place, expert, victim)
                        one.group.known += (loads + issued) * self.copy_in.host_ns
                        one.group.ahead = True
                        queued.append(one)
            if missing and self.case.prefetch.stop == "first_missing":
                break
        self._read_ahead((chunk.first + index, source), queued)
        for one in queued:
            self.copy_in.prefetch(one.group)
        return issued

    def _read_ahead(self, place: Place, queued: list[Prefetch]) -> None:
        """Read what was ``queued`` at ``place`` and is not in memory."""
        if (stored := self.stored) is None:
            return
        stored.ahead(*place, {(one.layer, one.expert): one.group for one in queued})
        for one in queued:
            one.read = stored.reads.get((one.layer, one.expert))

    def _pin(self, chunk: Chunk, target: tuple[int, int]) -> int:
        """What marks an expert as kept until ``target``."""
        return self._until(chunk.first + target[0], target[1])

    def _until(self, step: int, layer: int) -> int:
        return step * len(self.slots) + layer + 1

    def _busy(self, slots: LayerSlots, source: int, experts: Ints) -> NDArray[np.bool_]:
        """bool[experts of the pool]: those that the layer just decided needs."""
        busy = np.zeros(len(slots.cache.resident), np.bool_)
        own = self.slots[source]
        if own is not None and own.cache is slots.cache:
            busy[experts + own.first] = True
        return busy

    def _affords(self, layer: int) -> bool:
        """Whether one more expert of ``layer`` is within the budget."""
        if self.case.prefetch.budget is None:
            return True
        self.under_way = [one for one in self.under_way if one.copying]
        used = sum(one.group.amount for one in self.under_way)
        return used + self._copy((0, layer), 0, 0).amount <= self.case.prefetch.budget

    def _prefetch(self, place: Place, expert: int, victim: int) -> Prefetch:
        """The copy of ``expert`` over ``victim``, which is to be queued."""
        slots = self.slots[place[1]]
        assert slots is not None, "it has a slot now"
        if victim >= 0:
            key = self._key(slots, victim)
            self._evict(key)
            self.by_prefetch.add(key)
        group = self._copy(place, expert, int(self.env.now))
        one = Prefetch(place[1], expert, group)
        self.latest[place[1], expert] = one
        self.meant[place].append(one)
        if self.case.prefetch.budget is not None:
            self.under_way.append(one)
        group.done.callbacks.append(lambda _: self._arrived(one, slots))
        return one

    def _arrived(self, one: Prefetch, slots: LayerSlots) -> None:
        if self.latest.get((one.layer, one.expert)) is one:
            slots.arrived(one.expert)
            del self.latest[one.layer, one.expert]
