"""Slots and victims, expert by expert, as if no time passed (docs/semantics.md)."""

from __future__ import annotations

import zlib
from fractions import Fraction
from math import ceil, floor

import numpy as np

from .reference_misses import BEHIND, HOST, LOAD, SKIP, SUBSTITUTE, Misses
from .reference_policies import POLICIES, Arrival, Expert
from .reference_prefetch import CANCELLED, QUEUED, Copy
from .reference_words import NO_EXPERT, Activation, Config, Trace

STAGING = 2  # experts that the staging buffers hold


def usage_of(trace: Trace, layer: int, experts: int, first_part: float | Fraction) -> list[int]:
    """How often each expert was chosen in the first part of the trace, all phases."""
    first = ceil(Fraction(str(first_part)) * len(trace["expert_ids"]))
    usage = [0] * experts
    for token in trace["expert_ids"][:first]:
        for expert in token[layer]:
            if expert != NO_EXPERT:
                usage[expert] += 1
    return usage


def filling(
    initial: str, experts: list[Expert], usage: dict[Expert, int], stream: list[int]
) -> list[Expert]:
    """In which order ``experts``, layer by layer, get slots at the start."""
    if initial == "random":
        order = np.random.default_rng(stream).permutation(len(experts))
        return [experts[place] for place in order]
    by_id = initial == "lowest_ids"
    return sorted(experts, key=lambda e: (e[1], e[0]) if by_id else (-usage[e], *e))


class Drawn:
    """Uniform numbers of a stream, as many as are asked for."""

    def __init__(self, stream: list[int]) -> None:
        self.generator, self.numbers = np.random.default_rng(stream), list[float]()

    def __getitem__(self, place: int) -> float:
        while len(self.numbers) <= place:
            self.numbers.append(float(self.generator.random()))
        return self.numbers[place]


class Cache:
    """The slots of one GPU and MoE layer, or of all its MoE layers; an expert is (layer, id)."""

    def __init__(
        self,
        config: Config,
        sizes: dict[int, int],
        *,
        gpu: int,
        layers: list[int],
        local: list[int],
        usage: dict[Expert, int],
        active_experts: list[tuple[int, int, list[int]]],
        variant: int = 0,
        before: int = 0,
    ) -> None:
        """``sizes``: what an expert of each layer takes of the slots: one, or its bytes where the
        pool goes by bytes; ``active_experts``: every (forward pass, layer, ascending ids) that
        asks the slots, in order; ``before``: so many of the most used are preloaded elsewhere.

        Forward passes are counted without those that pass the slots by.
        """
        self.config, self.gpu, self.layers = config, gpu, layers
        experts = [(layer, e) for layer in layers for e in local]
        given = [config.slots_of(layer) for layer in layers]
        slots = [len(local) if of is None else of for of in given]
        whole = min(slots) >= len(local)  # resident from the start
        self.sizes = sizes
        self.slots = sum(of * sizes[m] for of, m in zip(slots, layers, strict=True))
        if config.pool_bytes is not None:
            self.slots = config.pool_bytes
            whole = self.slots >= sum(sizes[m] for m, _ in experts)
        self.all_resident = whole and not config.exchanges  # for good, without copies
        self.own = self.slots
        self.streams = config.policy == "stream" and not self.all_resident
        if self.streams:  # buffers of all layers, whatever the slots
            self.slots = config.parameters.get("buffers", 2)
        uses: dict[Expert, list[tuple[int, int, int]]] = {e: [] for e in experts}
        for (
            step,
            layer,
            ids,
        ) in active_experts:  # next use as (step, layer, activation), id order assumed
            for rank, expert in enumerate(ids):
                uses[layer, expert].append((step, layers.index(layer), rank))
        self.resident: set[Expert] = set()
        if whole:
            self.resident = set(experts)
        elif config.initial != "empty":
            drawn = [config.seed, zlib.crc32(b"initial"), config.holder(gpu), layers[0]]
            for e in filling(config.initial, experts, usage, drawn)[before:]:
                if not self.has_room(e):
                    break
                self.resident.add(e)
        holder = config.holder(gpu)
        stream = [config.seed, zlib.crc32(b"cache_policy.random"), holder, layers[0]]
        stream += [variant] if variant else []
        self.policy = POLICIES[config.policy](
            config,
            experts,
            slots=self.slots,
            resident=sorted(self.resident),
            usage=usage,
            uses=uses,
            uniform=Drawn(stream),
            layers=layers,
        )
        self.now = 0
        self.copies: dict[Expert, Copy] = {}  # the prefetch that filled an expert's slot
        self.pinned: set[Expert] = set()
        self.until: dict[Expert, tuple[int, int]] = {}  # the (pass, layer) that pins are for
        self.evicted_by: dict[Expert, str] = {}  # what took an expert's slot, the last time
        self.marks: dict[int, str] = {}  # of what the step and layer at hand needs
        self.took: dict[Expert, str] = {}  # the mark of what took an expert's slot, the last time
        second = [config.seed, zlib.crc32(b"cache_policy.random.prefetch"), holder, layers[0]]
        second += [variant] if variant else []
        self.second_stream = np.random.default_rng(second)

    def has_room(self, expert: Expert) -> bool:
        """Without an eviction."""
        return sum(self.sizes[m] for m, _ in [*self.resident, expert]) <= self.slots

    def give(self, given: int, step: int, layer: int) -> None:
        """Do with so many slots less than at the start; the policy says what goes for that."""
        self.slots = self.own - given
        while len(self.resident) > self.slots:
            candidates = sorted(self.resident)
            victim = self.victim_of_prefetch(candidates, candidates[0], step, layer)
            self.evict(victim, "given")
            self.took[victim] = ""

    def late(self, expert: Expert, now_ns: int) -> bool:
        """Whether an expert in a slot is still to come."""
        return expert in self.copies and not self.copies[expert].ended(now_ns)

    def evict(self, victim: Expert, by: str) -> None:
        self.resident.remove(victim)
        self.pinned.discard(victim)
        copy = self.copies.pop(victim, None)
        if copy is not None and copy.state == QUEUED:
            copy.state = CANCELLED
        self.evicted_by[victim] = by

    def step(
        self,
        step: int,
        forward_pass: int,
        layer: int,
        needed: list[int],
        rows: list[int],
        weights: dict[int, int],
        misses: Misses,
        now_ns: int = 0,
        wanted: dict[int, int] | None = None,
    ) -> list[Activation]:
        """The activations of one step and layer in execution order; their launches are not set yet.

        ``rows[expert]`` and ``weights[expert]`` are what the step gives each expert. The clock,
        ``now_ns``, only tells which prefetches have ended.
        """
        if self.streams:  # nothing stays
            self.resident = set()
        order = sorted((layer, e) for e in needed)
        at_start = {e for e in self.resident if not self.late(e, now_ns)}
        if self.config.order == "resident_first":
            order = [e for e in order if e in at_start] + [e for e in order if e not in at_start]
        if self.config.order == "least_makespan":
            order.sort(key=lambda expert: (-rows[expert[1]], expert))
        misses.divide({e: rows[e] for at, e in order if (at, e) not in self.resident})
        activations = []
        for place, expert in enumerate(order):
            hit = expert in self.resident  # or late
            activation = Activation(step, layer, self.gpu, place, expert[1], hit)
            activation.rows = rows[expert[1]]
            activation.after = self.took.get(expert, "")
            activation.resident_at_start = expert in at_start
            if hit:
                self.use_copy(expert, activation, now_ns)
            else:
                activation.caused = self.evicted_by.get(expert) == "prefetch"
            arrival = Arrival(
                self.now,
                forward_pass,
                self.layers.index(layer),
                expert,
                hit,
                weights.get(expert[1], 0),
                (wanted or {}).get(expert[1], 0),
            )
            if not hit:
                room = self.has_room(expert)
                room = room or bool(self.resident - set(order) - self.pinned)
                activation.place = misses.place(activation.rows, room, expert[1])
            if not hit and activation.place not in (LOAD, BEHIND):  # the slots stay as they are
                self.policy.elsewhere(arrival)
                self.now += 1
                activations.append(activation)
                continue
            self.policy.seen(arrival)
            victim = None
            if not hit:
                activation.rule = "free"
                while not self.has_room(expert):
                    victim, activation.rule = self.next_to_go(order, place, arrival)
                    self.evict(victim, "demand")
                    self.took[victim] = self.marks.get(expert[1], "")
                    activation.victim, activation.evicted = victim[1], activation.evicted + 1
                    activation.over += (victim[1],) if activation.rule == "b" else ()
                self.resident.add(expert)
            self.policy.ended(arrival, victim)
            self.now += 1
            activations.append(activation)
        return activations

    def use_copy(self, expert: Expert, activation: Activation, now_ns: int) -> None:
        """What a prefetch has brought, or is bringing."""
        copy = self.copies.get(expert)
        if copy is None:
            return
        window = self.config.prefetch.every if self.config.prefetch.when == "before_pass" else 1
        same = copy.step // window == activation.step // window  # of passes predicted together
        if same and not copy.used:
            copy.used, copy.used_in = True, activation.step
        if self.late(expert, now_ns):
            activation.hit, activation.late, activation.copy = False, True, copy
            if copy.state == QUEUED:
                copy.promote()

    def victim_of_prefetch(
        self, candidates: list[Expert], expert: Expert, step: int, layer: int
    ) -> Expert:
        """``layer``: the one just decided."""
        if self.config.policy == "random":
            return candidates[floor(float(self.second_stream.random()) * len(candidates))]
        place = self.layers.index(layer) if layer in self.layers else 0
        return self.policy.victim(candidates, Arrival(self.now, step, place, expert, False))

    def pass_by(
        self,
        step: int,
        layer: int,
        needed: list[int],
        rows: list[int],
        misses: Misses,
        *,
        whole: bool,
    ) -> list[Activation]:
        """The activations of a step and layer that leaves the slots, and what policies know,
        alone.
        """
        if whole and not self.all_resident:
            return self.of_whole_layer(step, layer, needed, rows)
        present: set[Expert] = set() if self.streams else self.resident
        order = sorted(needed)
        if self.config.order == "resident_first":
            order.sort(key=lambda e: (layer, e) not in present)
        misses.divide({e: rows[e] for e in order if (layer, e) not in present})
        activations = []
        buffers: list[int] = []  # the one filled first comes first
        for place, expert in enumerate(order):
            hit = (layer, expert) in present
            activation = Activation(step, layer, self.gpu, place, expert, hit)
            activation.rows, activation.resident_at_start = rows[expert], hit
            activation.after = self.took.get((layer, expert), "")
            activation.place = "" if hit else misses.place(rows[expert], False, expert)
            if activation.place and self.config.copies_all_from is not None:
                activation.place = LOAD
            if activation.place == LOAD:
                activation.rule = "staged"
                if len(buffers) == STAGING:
                    activation.victim = buffers.pop(0)
                    activation.over = (activation.victim,)
                buffers.append(expert)
            activations.append(activation)
        return activations

    def of_whole_layer(
        self, step: int, layer: int, needed: list[int], rows: list[int]
    ) -> list[Activation]:
        """All come with their layer."""
        activations = []
        for place, expert in enumerate(sorted(needed)):
            activation = Activation(
                step, layer, self.gpu, place, expert, False, place=LOAD, rule="layer"
            )
            activation.rows = rows[expert]
            activation.after = self.took.get((layer, expert), "")
            activations.append(activation)
        return activations

    def next_to_go(self, order: list[Expert], place: int, arrival: Arrival) -> tuple[Expert, str]:
        if self.config.protect == "none":  # any of them, whatever the step needs
            candidates = sorted(self.resident - self.pinned)
            if candidates:
                victim = self.policy.victim(candidates, arrival)
                over, coming = victim in order[:place], victim in order[place:]
                return victim, "b" if over else "c" if coming else "a"
        # (a) residents not in N
        candidates = sorted(self.resident - set(order) - self.pinned)
        if candidates:
            return self.policy.victim(candidates, arrival), "a"
        # (b) experts of N whose activation is over
        candidates = sorted(self.resident & set(order[:place]))
        if candidates:
            return self.policy.victim(candidates, arrival), "b"
        # (c) the resident expert of N that comes last in the execution order
        last = [e for e in order if e in self.resident][-1:]
        if last:
            return self.policy.victim(last, arrival), "c"
        # (d) pinned for the layer that comes last
        return max(self.pinned, key=lambda e: (self.until[e], e[1])), "d"


def form_launches(activations: list[Activation], config: Config) -> list[list[Activation]]:
    """The kernels of one step, each of one variant, and each activation's launch number."""
    launches: list[list[Activation]] = []
    for key in sorted({(activation.part, activation.variant) for activation in activations}):
        mine = [one for one in activations if (one.part, one.variant) == key]
        for launch in launches_of_variant(mine, config):
            for activation in launch:
                activation.launch = len(launches)
            launches.append(launch)
    return launches


def launches_of_variant(activations: list[Activation], config: Config) -> list[list[Activation]]:
    launches: list[list[Activation]] = []
    residents_ended = False
    for activation in activations:
        if activation.place in (HOST, BEHIND, SKIP, SUBSTITUTE):
            activation.launch = -1
            continue
        current = launches[-1] if launches else []
        if config.kernels == "serial":
            new = True  # one kernel an expert
        else:
            new = not launches or activation.rule == "staged"
            # rule (b): it takes the slot of an expert of the same launch
            staged = activation.rule == "staged"
            if not staged and {other.expert for other in current} & set(activation.over):
                new = True
            # resident_first: where the residents end
            if (
                config.order == "resident_first"
                and not activation.resident_at_start
                and not residents_ended
            ):
                residents_ended = True
                new = True
        if new:
            launches.append([])
        launches[-1].append(activation)
    return launches
