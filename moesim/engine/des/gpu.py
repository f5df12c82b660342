"""One GPU: a process that runs forward passes, layer by layer (docs/semantics.md)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import simpy

from moesim.engine.case import Case
from moesim.engine.chunk import Beside, Chunk
from moesim.engine.des.collective import Collective
from moesim.engine.des.compute import Compute, Events
from moesim.engine.des.copies import CopyGroup, CopyIn
from moesim.engine.des.copy_groups import Ends, Groups, copy_groups, name_copies
from moesim.engine.des.drive import Drive, Reading
from moesim.engine.des.host import HostCompute
from moesim.engine.des.layer import DenseLayer, MoeLayer, TermOnGpu, layers_on, on_gpu
from moesim.engine.des.records import (
    ATTENTION,
    BARRIER,
    CPU,
    DISPATCH,
    EXPERTS,
    HOST,
    STORAGE,
    WEIGHTS,
    Kept,
)
from moesim.engine.des.unit_groups import Spans, on_groups
from moesim.engine.instants import NEVER
from moesim.engine.pricing.host_times import HostTimes, host_head_ns, host_times
from moesim.engine.pricing.terms import categories_of
from moesim.engine.residency.storage import read_times
from moesim.hardware.charge import REBALANCING, Stage
from moesim.hardware.described.software import Execution
from moesim.trace.routing import Phase

Chunks = Callable[[int], Chunk | None]
IN_BACKGROUND = -1
"""The launch of copies that none needs."""
LAYER_BUFFERS = 2
"""One layer is copied while another computes."""


class Gpu(Compute):
    """The compute engine of one GPU and its host thread."""

    def __init__(
        self, env: simpy.Environment, number: int, case: Case, group: Collective, copy_in: CopyIn,
        kept: Kept, *, held: int = 0, host_compute: HostCompute | None = None,
    ) -> None:  # fmt: skip
        super().__init__(env, number, categories_of(case), spans=kept.spans)
        self.case, self.group, self.copy_in = case, group, copy_in
        self.host_compute, self.keep_layers = host_compute, kept.layers
        self.drive: Drive | None = None
        self.together, self.held = case.gpus > 1, held
        self.agrees, self.gathers = case.gating.agrees, case.gathers
        self.overlaps = case.software.overlap
        self.hold(0, held)
        self.hosts: dict[Execution, tuple[list[HostTimes], int]] = {}
        self.reads = read_times(case)
        beside = self.overlaps and not copy_in.blocking
        self.copies_ahead = case.prefill == "stream" and beside and not case.prefetches
        self.chunk = 0
        self.to_stream: deque[MoeLayer] = deque()
        self.coming: dict[int, CopyGroup] = {}
        self.reading: dict[int, Reading | None] = {}
        self.behind: dict[int, CopyGroup] = {}
        self.moving, self.all_reduce = (0, 0), NEVER
        """From when to when experts move beside a pass, and when its first all-reduce is due."""

    def run(self, chunks: Chunks) -> Events:
        """Every pass of every chunk."""
        number = 0
        while (chunk := chunks(number)) is not None:
            hosts, self.host_head = self._hosts_at(chunk.first)
            layers = layers_on(chunk, self.case, self.number, hosts, self.reads)
            head = on_gpu(chunk.terms.head, self.categories, self.number)[Stage.HEAD]
            first, last = chunk.first, chunk.first + chunk.passes
            phases = self.case.schedule.phase[first:last].tolist()
            earliest = self.case.schedule.earliest_starts(first, last).tolist()
            begins = self.case.schedule.begins(first, last).tolist()
            by_phase = {
                phase: [layers[layer.index] for layer in self.case.layers_of(phase)]
                for phase in set(phases)
            }
            for index, phase in enumerate(phases):
                self.step, self.chunk = first + index, number
                yield from self._begin(earliest[index], begins[index])
                if chunk.beside is not None:
                    yield from self._move_beside(chunk.beside)
                yield from self._forward(by_phase[phase], index, head, phase)
            number += 1
            if self.case.schedule.grows:
                yield self.group.arrive(self.time)
        yield from self.reach()

    def _hosts_at(self, first: int) -> tuple[list[HostTimes], int]:
        """What the host launches by layer, and in the head, of pass ``first`` and its chunk."""
        (execution,) = self.case.executions(first, first + 1)
        if execution not in self.hosts:
            case = self.case.launched_as(execution)
            self.hosts[execution] = (host_times(case), host_head_ns(case))
        return self.hosts[execution]

    def _begin(self, not_before: int, begins: int) -> Events:
        """A pass begins when the last has ended, but not before ``begins``; from there on the GPU
        waits for the host up to ``not_before``. Nothing is charged for the wait before.
        """
        self.cursor = max(self.time, begins)
        self.time = self.host = max(self.time, not_before)
        if not self.case.schedule.grows:  # else GPUs meet, and one may begin before another's end
            yield from self.reach()

    def _move_beside(self, beside: Beside) -> Events:
        """Experts move from when all GPUs have begun the pass; none waits for the others there."""
        begun = yield self.group.arrive(self.time)
        self.moving = begun, begun + beside.ns
        self.all_reduce = self.time + int(beside.until[self.number])
        if self.keep_spans:
            self.span("communication", "move experts", *self.moving, REBALANCING)

    def _wait_for_moved(self) -> None:
        """The pass's first all-reduce waits, which ends alike if what is before it does."""
        begun, moved = self.moving
        self.charge(ATTENTION, self.time + max(begun - self.all_reduce, 0), "wait for GPUs")
        self.time += moved - self.all_reduce
        self.all_reduce = NEVER
        self._charge_moving(self.time)

    def _charge_moving(self, until: int) -> None:
        self.charge(self.categories.index(REBALANCING), until, "wait for experts that move")

    def _forward(
        self, layers: list[DenseLayer | MoeLayer], index: int, head: list[TermOnGpu], phase: int
    ) -> Events:
        """One forward pass."""
        records, decode = self.records, phase == Phase.DECODE
        self.charges = charges = [0] * len(self.categories)
        records.starts.append(self.cursor)
        self.charge(HOST, self.time, "wait for scheduler")
        if self.copies_ahead:
            self.to_stream = deque(
                one for one in layers if isinstance(one, MoeLayer) and one.streamed[index]
            )
        for _ in range(LAYER_BUFFERS):
            self._copy_ahead(index)
        if self.case.prefetch.before_pass:
            yield from self._load_before(index)
        for layer in layers:
            begin, stall, barrier = self.time, charges[WEIGHTS], charges[BARRIER]
            self.layer = layer.index
            if self.all_reduce < self.moving[1]:
                self._wait_for_moved()
            self._run(layer.terms[Stage.BEFORE_GATE], index)
            hosts = layer.hosts
            attention = hosts.attention if decode else hosts.sequence
            self.launch("launch attention", self.host + attention)
            if isinstance(layer, DenseLayer):
                self.launch("launch dense FFN", self.host + hosts.dense)
                continue
            if self.together or self._disturbed(layer, index):
                yield from self._moe_layer(layer, index)
            else:
                self._undisturbed(layer, index)
            if self.keep_layers:
                waits = (charges[WEIGHTS] - stall, charges[BARRIER] - barrier)
                records.layers.append((self.step, layer.moe_index, begin, self.time, *waits))
        self.layer = -1
        self._run(head, index)
        self.launch("launch head", self.host + (0 if phase == Phase.ENCODE else self.host_head))
        self.time = self.host = max(self.time, self.host)
        self.charge(HOST, self.time, "wait for host")
        records.ends.append(self.time)
        records.charges.append(charges)

    def _run(self, terms: list[TermOnGpu], index: int) -> int:
        """The terms of a stage, one after another. Returns the end."""
        time = self.time
        for category, name, ns in terms:
            self.time = time = time + ns[index]
            self.charge(category, time, name)
        return time

    def _disturbed(self, layer: MoeLayer, index: int) -> bool:
        """Whether something may wait for an event: copies, or the host where memory is shared."""
        copies = bool(self._issued(layer, index)) or layer.index in self.behind
        copies = copies or (self.drive is not None and layer.reads(index) > 0)
        return copies or (self.host_compute is not None and bool(layer.hosted(index)))

    def _undisturbed(self, layer: MoeLayer, index: int) -> None:
        """A MoE layer of a lone GPU that waits for no copy: no event."""
        known, free, _ = self._gate(layer, index)
        known = self._decided(layer, known)
        self.time = max(known, free)
        if self.agrees:
            known = self._permute(layer, index)
        low, high = layer.step_launches[index], layer.step_launches[index + 1]
        self._launch_experts(layer, index)
        for launch in range(low, high):
            self._run_launch(layer, launch)
        if layer.hosted_ns:
            self._host_alone(layer, index, known)
        self._unpermute(layer, index)

    def _gate(self, layer: MoeLayer, index: int) -> tuple[int, int, int]:
        """The gate, then the shared expert: when the gate ends, when compute is free again, and
        when the rows are there that are permuted before the shared expert.
        """
        gated = self._run(layer.terms[Stage.GATE], index)
        self.launch("launch gate", self.host + layer.hosts.gate)
        permuted = free = gated if self.agrees else self._permute(layer, index)
        if beside := layer.terms[Stage.BESIDE]:
            if any([term.ns[index] for term in beside]):  # noqa: C419 (twice as fast)
                self.launch("launch shared expert", self.host + layer.hosts.shared)
            free = self._run(beside, index)
        return (gated if self.overlaps else free), free, permuted

    def _permute(self, layer: MoeLayer, index: int) -> int:
        """The rows are reordered, or put into their places, apart from the gate. Returns the
        end.
        """
        permute = layer.terms[Stage.PERMUTE]
        return self._run(permute, index) if permute else self.time

    def _decided(self, layer: MoeLayer, known: int) -> int:
        """Wait for the host where it decides, or waits anyway."""
        if not layer.hosts.waits:
            return known
        asked = max(known, self.host)
        self.charge(HOST, asked, "wait for host")
        self.launch("read counts", asked + layer.sync_ns, known)
        self.charge(HOST, self.host, "read counts")
        return self.host

    def _run_launch(self, layer: MoeLayer, launch: int) -> None:
        start, experts = self.time, layer.experts_of_launch(launch) if self.keep_spans else ""
        self.time += layer.kernel_ns[launch]
        self.charge(EXPERTS, self.time, "experts", experts)
        if beyond := layer.read_ns[launch]:
            self.time += beyond
            self.charge(WEIGHTS, self.time, "wait for weights", experts)
        if self.keep_spans and (number := layer.read[launch]):
            amount = number * layer.amount
            end = start + self.case.prices.copy_ns(amount, "h2d", True, 1)
            self.span("read", "read experts", start, end, "copy", "", amount)

    def _host_alone(self, layer: MoeLayer, index: int, ready: int) -> None:
        """Wait for the experts that the host computes, if it does; nothing disturbs it."""
        if layer.hosted(index):
            spans = self._computed(layer, index, ready)
            end = _last_end(spans)
            self._host_ended(layer, index, spans, (end, end + layer.up_ns[index]))

    def _computed(self, layer: MoeLayer, index: int, ready: int) -> list[Spans]:
        """When the host's rows, which are ``ready``, go down, and when its experts are computed, or
        their rows moved to groups of units and back.
        """
        down = ready + layer.down_ns[index]
        if layer.unit_groups is not None:
            low, high = layer.step_hosted[index : index + 2]
            return [(ready, down), *on_groups(layer.hosted_parts[low:high], down)]
        return list(pairwise((ready, *accumulate(layer.hosted(index), initial=down))))

    def _host_ended(
        self, layer: MoeLayer, index: int, spans: Sequence[Spans], up: tuple[int, int]
    ) -> None:
        """Wait for the host's experts; ``spans`` as of ``_computed``, ``up``: of their rows."""
        self.time = max(self.time, up[1])
        self.charge(CPU, self.time, "wait for CPU")
        if self.keep_spans:
            down, *experts = spans
            self.span("rows_out", "rows to CPU", down[0], down[1], "copy")
            low, high = layer.step_hosted[index : index + 2]
            name = "rows of units" if layer.unit_groups else "expert on CPU"
            for expert, ends in zip(layer.hosted_expert[low:high], experts, strict=True):
                for start, end in zip(ends[::2], ends[1::2], strict=True):
                    self.span("cpu", name, start, end, "experts", expert)
            self.span("rows_in", "rows from CPU", *up, "copy")

    def _host_beside(self, layer: MoeLayer, index: int, ready: int) -> simpy.Process | None:
        """The host at work, if it is, beside copies, which may read the same memory."""
        if not layer.hosted(index):
            return None
        return self.env.process(self._at_host(layer, index, ready))

    def _at_host(
        self, layer: MoeLayer, index: int, ready: int
    ) -> Generator[simpy.Event, Any, tuple[Sequence[Spans], tuple[int, int]]]:
        """Its rows come up behind copies that were asked for before; those in the background make
        way. Returns ``spans`` and ``up`` of ``_host_ended``.
        """
        spans: Sequence[Spans]
        if self.host_compute is None:
            spans = self._computed(layer, index, ready)
            yield self.env.timeout(_last_end(spans) - int(self.env.now))
        else:
            jobs = [(layer.amount, price) for price in layer.hosted(index)]
            spans = yield from self.host_compute.run(ready, layer.down_ns[index], jobs)
        up_ns, end = layer.up_ns[index], _last_end(spans)
        if up_ns == 0 or self.case.miss.copies_behind:
            return spans, (end, end + up_ns)
        rows = self.copy_in.bring_up(up_ns)
        yield rows
        return spans, rows.spans[0]

    def _moe_layer(self, layer: MoeLayer, index: int) -> Events:
        """A MoE layer with collectives or copies."""
        known, free, permuted = self._gate(layer, index)
        if self.gathers:
            known = yield from self._together(known, layer.dispatch[index], "all-gather")
        elif layer.exchange_ns:
            known = yield from self._together(known, layer.exchange_ns, "exchange counts")
        known = self._decided(layer, known)
        reading = self._reading(layer, index, known)
        groups, ends, whole = yield from self._settle(layer, index, known, reading)
        if self.agrees:
            self.time = max(known, free)
            permuted = free = self._permute(layer, index)
        ready = max(known, permuted)
        if self.together and not self.gathers:
            ready = yield from self._together(ready, layer.dispatch[index], "dispatch")
        begun = None if reading is None else (yield reading.begun)
        stored, host_has = self._stored(layer, index, begun)
        hosted = max(ready, host_has)
        beside = self._host_beside(layer, index, hosted)
        self.time = max(ready, free)
        there = 0
        if whole is not None:
            self._wait_stored(max(stored, default=0))
            there, stored = (yield from self._arrival(whole)), []
        last_copy = max(there, (yield from self._launches(layer, index, groups, ends, stored)))
        if hosted > ready:
            self.charge(STORAGE, hosted, "wait for storage")
        if whole and self.to_stream:
            yield from self.reach()
            self._copy_ahead(index)
        self._launched(layer, index, known, max(known, last_copy))
        if beside is not None:
            self._host_ended(layer, index, *(yield beside))
        self._left(layer)
        if self.together:
            what = "reduce-scatter" if self.gathers else "combine"
            self.time = yield from self._together(self.time, layer.combine[index], what)
        self._unpermute(layer, index)

    def _left(self, layer: MoeLayer) -> None:
        """Nothing needs the layer's experts any more."""
        if self.drive is not None:
            self.drive.left(self.time, self.behind.get(layer.index))

    def _unpermute(self, layer: MoeLayer, index: int) -> None:
        if after := layer.terms[Stage.AFTER]:
            self._run(after, index)

    def _reading(self, layer: MoeLayer, index: int, known: int) -> Reading | None:
        """What the layer reads from storage, asked for when its counts are known."""
        if self.drive is None:
            return None
        if layer.index in self.reading:  # it came ahead
            return self.reading.pop(layer.index)
        place = self.number % self.drive.gpus
        begun = self.drive.ask(place, known, layer.busy_ns(index))
        return Reading(self.env, layer, index, begun)

    def _stored(self, layer: MoeLayer, index: int, begun: int | None) -> tuple[list[int], int]:
        """When host memory has what each launch or its copies want, and the host's experts, of
        reads that have ``begun`` then.
        """
        if begun is None:
            return [], 0
        if layer.streamed[index]:
            return [layer.read_end(index, begun, layer.reads(index) - 1)], 0
        return layer.launches_have(index, begun), layer.host_has(index, begun)

    def _settle(
        self, layer: MoeLayer, index: int, known: int, reading: Reading | None = None
    ) -> Generator[simpy.Event, Any, tuple[Groups, Ends, CopyGroup | None]]:
        """The copies of the layer, queued when the counts are known: by launch, the launch ends
        that some wait for, and those of the whole layer where it came ahead.
        """
        whole = self.coming.pop(layer.index, None)
        groups, ends = ({}, {}) if whole else self._copies(layer, index, known, reading)
        if groups or self.host_compute:
            self.time = known
            yield from self.reach()
        for group in chain.from_iterable(groups.values()):
            self.copy_in.submit(group)
        self.held += layer.filled[index]
        if self.keep_spans:
            self.hold(known, self.held)
        if layer.streamed[index] and whole is None:
            whole = groups.pop(0)[-1]
        return groups, ends, whole

    def _issued(self, layer: MoeLayer, index: int) -> int:
        """How many copies the host issued in the layer."""
        return layer.step_copies[index + 1] - layer.step_copies[index]

    def _copies(
        self, layer: MoeLayer, index: int, known: int, reading: Reading | None = None
    ) -> tuple[Groups, Ends]:
        groups, ends = copy_groups(self.env, layer, index, known, reading)
        if self.keep_spans:
            name_copies(groups, layer, index, self.step)
        return groups, ends

    def _load_before(self, index: int) -> Events:
        """Load what is predicted before the pass; nothing here."""
        del index
        yield from ()

    def _copy_ahead(self, index: int) -> None:
        """Queue the copies of the pass's next layer that is copied whole."""
        if self.to_stream:
            layer = self.to_stream.popleft()
            reading = self._reading(layer, index, self.time)
            groups, _ = self._copies(layer, index, self.time, reading)
            for group in groups[0]:
                group.ahead = True
                self.copy_in.submit(group)
            self.coming[layer.index], self.reading[layer.index] = groups[0][-1], reading

    def _arrival(self, group: CopyGroup) -> Generator[simpy.Event, Any, int]:
        """Wait for the copies of ``group``. Returns their end."""
        end: int = group.spans[-1][1] if group.processed else (yield group)
        self.time = max(self.time, end)
        self.charge(WEIGHTS, self.time, "wait for weights")
        return end

    def _launches(
        self,
        layer: MoeLayer,
        index: int,
        groups: Groups,
        ends: Ends,
        stored: Sequence[int] = (),
    ) -> Generator[simpy.Event, Any, int]:
        """Every launch, each when its weights are there, which come from storage at ``stored``.
        Returns the end of the last copy, 0 without one.
        """
        low, high, last_copy = layer.step_launches[index], layer.step_launches[index + 1], 0
        if high > low and layer.index in self.behind:
            yield from self._arrival(self.behind.pop(layer.index))
        if IN_BACKGROUND in groups:
            self.behind[layer.index] = groups[IN_BACKGROUND][-1]
        for number in range(high - low):
            if stored:
                self._wait_stored(stored[number])
            if number in groups:
                last_copy = yield from self._arrival(groups[number][-1])
            self._run_launch(layer, low + number)
            if number in ends:
                yield from self.reach()
                ends[number].succeed()
        return last_copy

    def _wait_stored(self, until: int) -> None:
        """Wait for what is read from storage."""
        if until > self.time:
            self.time = until
            self.charge(STORAGE, until, "wait for storage")

    def _launched(self, layer: MoeLayer, index: int, known: int, last_copy: int) -> None:
        """The host's time for copies, experts and combine."""
        if copies := self._issued(layer, index):
            if self.copy_in.blocking:
                self.launch("wait for copies", max(self.host, last_copy), known)
            else:
                issued = max(self.host, known) + copies * self.copy_in.host_ns
                self.launch("launch copies", issued, known)
        self._launch_experts(layer, index)

    def _launch_experts(self, layer: MoeLayer, index: int) -> None:
        self.launch("launch experts", self.host + layer.host_launches[index] * layer.hosts.experts)
        self.launch("launch combine", self.host + layer.hosts.combine)

    def _together(self, arrival: int, price_ns: int, what: str) -> Generator[simpy.Event, int, int]:
        """A collective: it starts when the last GPU is there. Returns its end."""
        due = yield self.group.arrive(arrival)
        self.charge(BARRIER, due, "wait for GPUs")
        start = max(due, self.moving[1])
        if start > due:
            self._charge_moving(start)
        self.charge(DISPATCH, start + price_ns, what)
        if self.keep_spans:
            name = what if self.gathers else f"all-to-all: {what}"
            self.span("communication", name, start, start + price_ns, "dispatch_combine")
        return start + price_ns


def _last_end(spans: Sequence[Spans]) -> int:
    """Of one after the other, or of groups of units, whose rows come and go twice."""
    return max(ends[-1] for ends in spans) if spans[-1][2:] else spans[-1][1]
