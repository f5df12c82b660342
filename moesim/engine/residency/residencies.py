"""The expert caches of GPUs that cannot hold all their experts: one a MoE layer, or one for all."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import APART, THROUGH, WHOLE, Case, Ints
from moesim.engine.marks import DECODE, MARKED, NO_VICTIMS, Marking
from moesim.engine.prefetch import Asked, Fetched
from moesim.engine.residency.layer_slots import LayerSlots
from moesim.engine.residency.pool_runs import (
    Coming,
    Run,
    behind,
    evicted,
    joined,
    request_starts,
    runs_of,
)
from moesim.engine.routing import Key, Routing
from moesim.memory.activations import Activations, ActiveExperts, steps_of
from moesim.memory.policy import reads_usage
from moesim.memory.slots.by_bytes import Victims
from moesim.memory.slots.ghosts import count_ghosts
from moesim.memory.slots.initial import in_order
from moesim.memory.slots.pools import Interleaved
from moesim.memory.slots.residency import Given, LayerCache, Steps, all_there, next_uses
from moesim.trace.routing import NO_EXPERT

LEARNING_PART = 0.25
"""Share of the trace from which ``initial: most_used`` learns, unless the policy names its own."""

NONE = np.empty(0, np.int64)
OF_PREFETCHES = b"cache_policy.random.prefetch"
"""The name of draws for victims of prefetches."""


class Residencies:
    """State without a clock, carried from piece to piece in order.

    ``first_uses`` by pool and GPU, where next uses are looked up elsewhere.
    """

    def __init__(
        self, case: Case, routing: Routing, first_uses: Mapping[Key, Ints] | None = None
    ) -> None:
        self.case, self.routing = case, routing
        every = tuple(range(len(routing.moe_layers)))
        pools = [every] if case.policy.scope == "global" else [(layer,) for layer in every]
        self._cached = [
            (pool, gpu)
            for pool in pools
            for gpu in range(case.gpus)
            if not case.resident(gpu)[list(pool)].all()
        ]
        self._future: dict[Key, tuple[Ints, Ints]] = {}
        if first_uses is not None:
            self._future = {key: (NONE, first) for key, first in first_uses.items()}
        elif case.policy.looks_ahead:
            self._future = self._look_ahead()
        self._streams: dict[Key, np.random.Generator] = {}
        self.caches: dict[Key, LayerCache] = {}
        """The caches as they are, by pool and GPU; those of variants follow one another."""
        self.evicted: dict[Key, Ints] = {}
        """In pools by bytes, how many experts made room in each of the passes last decided."""
        self._ghosts: dict[Key, Ints] = {}
        self._known: dict[int, Steps] = {}
        """What the last pool decided, by the first pass: where all experts are active, others often
        do the same."""
        self._first = 0
        self.marked: Ints | None = None
        """int64[passes, MoE layers, gpus, MARKED] of the passes last decided, where they were
        marked."""
        self.marking = Marking.of(case)
        self._marks: Mapping[Key, Ints] | None = None
        self._open()

    def _open(self) -> None:
        """Make the caches, and draw for what is known."""
        drawn = self._cached if self.case.policy.draws else ()
        self._streams = {(pool[0], gpu): self._stream((pool[0], gpu)) for pool, gpu in drawn}
        self.caches = {
            (pool[0], gpu): self._make_cache(pool, gpu, int(self.case.slots[gpu, list(pool)].sum()))
            for pool, gpu in self._cached
        }
        self.draw()

    def mark(self) -> tuple[Any, ...]:
        """What ``back`` goes back to."""
        evicted_by = {key: one.copy() for key, one in self.marking.evicted_by.items()}
        return {key: cache.mark() for key, cache in self.caches.items()}, evicted_by

    def back(self, mark: tuple[Any, ...]) -> None:
        """Nothing has been decided since then."""
        caches, evicted_by = mark
        for key, of_cache in caches.items():
            self.caches[key].back(of_cache)
        self.marking.evicted_by.clear()
        self.marking.evicted_by.update(evicted_by)

    def held(self, gpu: int) -> int:
        """Experts of ``gpu`` that are in slots now, all of those layers that have slots for all; a
        variant of an expert is one.
        """
        pooled = sum(len(pool) for pool, of_gpu in self._cached if of_gpu == gpu)
        whole = len(self.routing.moe_layers) - pooled
        mine = (cache for (_, of_gpu), cache in self.caches.items() if of_gpu == gpu)
        in_slots = sum(int(cache.resident.sum()) for cache in mine)
        return whole * len(self.routing.local[gpu]) + in_slots

    def move(self, moved: Ints) -> None:
        """From now on the host's start and the copies of rows cost ``moved`` int64[2, rows + 1]."""
        for cache in self.caches.values():
            cache.moved = moved

    def draw(self) -> bool:
        """Draw for the activations of all passes that are known; whether any cache has more
        draws.
        """
        drawn = False
        for pool, gpu in self._cached if self.case.policy.draws else ():
            key, most = (pool[0], gpu), self._most_activations(gpu) * len(pool)
            cache = self.caches[key]
            if most > (known := len(cache.draws)):
                more = self._streams[key].random(max(most, 2 * known) - known)
                cache.draws = np.concatenate((cache.draws, more)) if known else more
                drawn = True
        return drawn

    def activations(
        self, coming: Coming, marks: Mapping[Key, Ints] | None = None
    ) -> dict[Key, Activations]:
        """Decide the activations of what is ``coming``; ``marks`` int64[active experts] say whose
        tokens need them, where that is counted.
        """
        self.draw()
        active_experts, first, last, _ = coming
        self._marks, self._first = marks, first
        if marks is not None:
            shape = (last - first, len(self.routing.moe_layers), self.case.gpus, len(MARKED))
            self.marked = np.zeros(shape, np.int64)
        by_bytes = [gpu for _, gpu in self._cached if self._counts_evicted(gpu)]
        self.evicted = {
            key: np.zeros(last - first, np.int64) for key in active_experts if key[1] in by_bytes
        }
        serial = self.case.kernels == "serial"
        activations = self._decided(coming)
        rest, known = dict[Key, Activations](), dict[int, Activations]()
        for key, one in active_experts.items():
            if key not in activations:
                if id(one.experts) not in known:
                    known[id(one.experts)] = all_there(one, serial=serial, hit=True)
                rest[key] = known[id(one.experts)]
        if marks is not None:
            for key, made in rest.items():
                self._count_marks(key, slice(None), active_experts[key], marks[key], made)
        return activations | rest

    def _counts_evicted(self, gpu: int) -> bool:
        """Whether experts leave slots of ``gpu`` otherwise than each for one that comes, or come
        without a slot beside those that have one.
        """
        apart = self.case.prefill != "cache" and self.case.schedule.served is not None
        return self.case.exchanges or apart or self.case.room(gpu) is not None

    def _count_marks(
        self, key: Key, span: slice, active: ActiveExperts, marks: Ints, made: Activations,
        victims: Victims = NO_VICTIMS,
    ) -> None:  # fmt: skip
        """Count by mark what the pool ``key`` made in passes ``span``."""
        layer, gpu = key
        pool, experts = self.caches.get(key), len(self.routing.local[gpu])
        of_pool = experts if pool is None else len(pool.resident)
        counted = self.marking.counted(key, of_pool, active, marks, made, victims)
        layers = slice(layer, layer + of_pool // experts)
        assert self.marked is not None, "there is room"
        into = self.marked[span, layers, gpu]
        into[:] = counted.reshape(into.shape)

    def _decided(self, coming: Coming) -> dict[Key, Activations]:
        """As ``activations``, of layers with caches."""
        active_experts, first, last, _ = coming
        runs, told = self.runs(first, last), self._told(coming)
        self._known.clear()
        activations: dict[Key, Activations] = {}
        for pool, gpu in self._cached:
            keys, each = [(layer, gpu) for layer in pool], len(pool)
            steps = Interleaved([active_experts[key] for key in keys], len(self.routing.local[gpu]))
            needs = steps.active_experts
            joined = {name: steps.joined(list(map(of, keys))) for name, of in told.items()}
            asked, made = Asked(needs.experts, **joined), []
            for run in runs:
                begin, end = run.first * each, run.last * each
                here = slice(int(needs.offsets[begin]), int(needs.offsets[end]))
                made.append(self._decide(keys[0], run, needs.between(begin, end), asked.at(here)))
            activations |= zip(keys, steps.split(Activations.joined(made)), strict=True)
        return activations

    def _told(self, coming: Coming) -> dict[str, Callable[[Key], Ints]]:
        """What decisions are told of the active experts of a MoE layer on a GPU that has slots for
        some of them, by its name in ``Asked``.
        """
        told: dict[str, Callable[[Key], Ints]] = {}
        if self.case.policy.weighs and self._cached:
            weights = self.routing.weights(coming.first, coming.last)
            told["weights"] = self.routing.of_active(weights, coming.active_experts).__getitem__
        if self.case.miss.compares:
            told["prices"] = coming.prices
        if self._marks is not None:
            told["marks"] = self._marks.__getitem__
        return told

    def asked(self, coming: Coming) -> dict[Key, Asked]:
        """What is decided on the clock, with all that decides it."""
        self.draw()
        active_experts, told = coming.active_experts, self._told(coming)
        asked = {key: Asked(one.experts) for key, one in active_experts.items()}
        for pool, gpu in self._cached:
            keys = [(layer, gpu) for layer in pool]
            steps = Interleaved([active_experts[key] for key in keys], len(self.routing.local[gpu]))
            next_use = self._next_use(keys[0], steps.active_experts)
            for place, key in enumerate(keys):
                after = None if next_use is None else next_use[steps.places[place]]
                aligned = {name: of(key) for name, of in told.items()}
                asked[key] = Asked(active_experts[key].experts, after, **aligned)
        return asked

    def fetched(self, first: int, last: int) -> Fetched | None:
        """In which variants experts are copied that are predicted for passes first:last; None
        where they have none.
        """
        del first, last
        return None

    def slots_of(self, key: Key) -> LayerSlots | None:
        """The slots of a MoE layer on a GPU; None where it has its own for all local experts.
        Layers are numbered variant by variant.
        """
        layers = len(self.routing.moe_layers)
        variant, layer = divmod(key[0], layers)
        for pool, gpu in self._cached:
            if gpu == key[1] and layer in pool:
                place = (pool.index(layer), len(pool), len(self.routing.local[gpu]))
                return LayerSlots(self.caches[variant * layers + pool[0], gpu], *place)
        return None

    def restarts(self, first: int, last: int) -> NDArray[np.bool_]:
        """Before which of passes first:last the policy begins anew."""
        if self.case.policy.restarts:
            return request_starts(self.case.schedule, first, last)
        return np.zeros(last - first, np.bool_)

    def runs(self, first: int, last: int) -> list[Run]:
        """Passes first:last in runs that are decided at once, numbered from 0."""
        cuts = self.restarts(first, last), self._resized(first, last)
        return list(runs_of(self.case.ways(first, last), *cuts))

    def _resized(self, first: int, last: int) -> NDArray[np.bool_]:
        """Before which of passes first:last slots change."""
        given, resized = self.case.schedule.given, np.zeros(last - first, np.bool_)
        if given is not None:
            resized[1:] = (np.diff(given[first:last], axis=0) != 0).any(axis=1)
        return resized

    def _decide(self, key: Key, run: Run, needs: ActiveExperts, asked: Asked) -> Activations:
        """The activations of the pool ``key`` in a ``run`` of passes."""
        if run.restarts:
            self.caches[key].start_request()
        gone, victims = self._resize(key, self._first + run.first), NO_VICTIMS
        span = slice(run.first, run.last)
        if run.way == THROUGH:
            made, victims = self._through(key, run.first, needs, asked)
        elif run.way == APART:
            made = self._apart(key, needs, asked)
        elif run.way == WHOLE:
            made = all_there(needs, serial=self.case.kernels == "serial", hit=False)
        else:
            made = self.caches[key].bypass(needs, asked.prices)
        if run.way in (THROUGH, APART) and self._counts_evicted(key[1]):
            left = evicted(needs, made, victims)
            if run.way == APART:
                left += self._staged(needs, made, asked)
            for layer, of_layer in enumerate(left.reshape(run.last - run.first, -1).T, key[0]):
                self.evicted[layer, key[1]][span] = of_layer
        if gone:
            self.evicted[key][run.first] += gone
        if asked.marks is not None:
            self._count_marks(key, span, needs, asked.marks, made, victims)
        return made

    def _staged(self, needs: ActiveExperts, made: Activations, asked: Asked) -> Ints:
        """How many experts of each step came into staging buffers."""
        assert asked.marks is not None, "the scheduler says which tokens decode"
        of_step = steps_of(needs.offsets)
        around = asked.marks & DECODE == 0
        prompts = np.bincount(of_step[around], minlength=len(needs.offsets) - 1)
        place = np.arange(len(of_step)) - needs.offsets[of_step]
        behind = place >= (np.diff(needs.offsets) - prompts)[of_step]
        came = ~made.hit & self.case.flags.in_slot[made.form] & behind
        return np.bincount(of_step[came], minlength=len(needs.offsets) - 1)

    def _resize(self, key: Key, number: int) -> int:
        """Give the pool the slots that it has in pass ``number``; how many experts left it."""
        given = self.case.schedule.given
        if given is None:
            return 0
        (layer, gpu), cache = key, self.caches[key]
        layers = len(cache.resident) // len(self.routing.local[gpu])
        own = int(self.case.slots[gpu, layer : layer + layers].sum())
        gone = cache.resize(own - int(given[number, gpu]))
        if gone:
            self.marking.forget(key, gone)
            self._last_gone(key)[0] = gone[-1]
        return len(gone)

    def _last_gone(self, key: Key) -> Ints:
        """The expert that left the pool ``key`` last, int64[1]."""
        return self._ghosts.setdefault(key, np.full(1, -1))

    def _count_ghosts(self, key: Key, made: Activations) -> None:
        """Tell the scheduler what one slot more had spared, where a split goes by it."""
        serving = self.case.serving
        if serving is None or not (self.case.exchanges and len(serving.ghosts)):
            return
        each = self.case.gpus // len(serving.ghosts)
        expert, hit, victim = (
            np.ascontiguousarray(one) for one in (made.expert, made.hit, made.victim)
        )
        serving.ghosts[key[1] // each] += count_ghosts(expert, hit, victim, self._last_gone(key))

    def _apart(self, key: Key, needs: ActiveExperts, asked: Asked) -> Activations:
        """What goes through the slots of the pool in each step, for tokens of answers, and then
        around them what prompts alone need.
        """
        cache, (_, _, weights, prices, _, marks) = self.caches[key], asked
        assert marks is not None, "the scheduler says which tokens decode"
        made = []
        for low, high in pairwise(needs.offsets.tolist()):
            answers = marks[low:high] & DECODE > 0
            both = []
            for of in (answers, ~answers):
                own = np.flatnonzero(of) + low
                active = ActiveExperts(np.array([0, len(own)]), needs.experts[own])
                offers = None if prices is None else np.ascontiguousarray(prices[:, own])
                if of is answers:
                    weighed = None if weights is None else weights[own]
                    both.append(cache.decide(active, None, weighed, offers))
                else:
                    both.append(cache.bypass(active, offers))
            made.append(behind(*both))
        return Activations.joined(made)

    def _through(
        self, key: Key, first: int, needs: ActiveExperts, asked: Asked
    ) -> tuple[Activations, Victims]:
        """What goes through the slots of the pool in passes from ``first`` on, and of pools by
        bytes the victims.
        """
        cache, next_use = self.caches[key], self._next_use(key, needs)
        read = (next_use, asked.weights, asked.prices)
        told = any(one is not None for one in (*read, cache.room))
        if self.case.gating.invokes_all and not (told or self.case.policy.draws):
            self._known[first] = cache.decide_as(self._known.get(first), needs)
            made = self._known[first].made
        else:
            made = cache.decide(needs, *read)
        self._count_ghosts(key, made)
        return made, NO_VICTIMS if cache.room is None else cache.victims

    def _look_ahead(self) -> dict[Key, tuple[Ints, Ints]]:
        """Next uses of the whole run, and first uses, by pool."""
        keys = [(layer, gpu) for pool, gpu in self._cached for layer in pool]
        pieces = self.routing.pieces() if keys else ()
        parts = [self.routing.needed(*piece, keys, through=True) for piece in pieces]
        every = {key: joined([part[key] for part in parts]) for key in keys}
        return {
            (pool[0], gpu): self._next_uses([every[layer, gpu] for layer in pool], gpu)
            for pool, gpu in self._cached
        }

    def _next_uses(self, layers: list[ActiveExperts], gpu: int) -> tuple[Ints, Ints]:
        experts = len(self.routing.local[gpu])
        return next_uses(Interleaved(layers, experts).active_experts, len(layers) * experts)

    def _usage(self, layer: int) -> Ints:
        """Choices of each physical expert in the part of the trace from which the policy learns."""
        counts = usage_of(self.case, self.routing, layer, self.case.policy.learning_part())
        of_physical: Ints = counts[self.case.placement.logical[layer]]
        return of_physical

    def _make_cache(
        self, pool: tuple[int, ...], gpu: int, slots: int, before: int = 0
    ) -> LayerCache:
        """The cache of a pool with ``slots``; it begins without the so many most used experts
        ``before``, which are elsewhere.
        """
        case, local = self.case, self.routing.local[gpu]
        usage = np.zeros(len(pool) * len(local), np.int64)
        if case.initial == "most_used" or reads_usage(type(case.policy)):
            usage = np.concatenate([self._usage(layer)[local] for layer in pool])
        key, room, first = (pool[0], gpu), case.room(gpu), None
        if case.initial != "empty" or slots >= len(usage):
            stream = self._stream(key, b"initial") if case.initial == "random" else None
            first = in_order(case.initial, usage, len(pool), stream)[before:]
            first = first[:slots] if room is None else room.first_of(first)
        return LayerCache(
            case.policy,
            slots,
            usage,
            serial=case.kernels == "serial",
            resident_first=case.order == "resident_first",
            layers=len(pool),
            miss=case.miss,
            given=Given(
                prefetch_draws=self._stream(key, OF_PREFETCHES) if case.policy.draws else None,
                first_use=self._future[key][1] if key in self._future else None,
                resident=first,
                bandwidths=case.bandwidths,
                protects=case.protect == "step",
                room=room,
                prefetched=case.prefetches,
            ),
        )

    def _stream(
        self, key: Key, name: bytes = b"cache_policy.random", variant: int = 0
    ) -> np.random.Generator:
        """The draws of ``name`` for the pool ``key``, of a policy one an activation; one over all
        layers has the first layer's stream. Variants but the first have one of their own.
        """
        (layer, gpu), of_variant = key, [variant] * (variant > 0)
        seeds = [self.case.seed, zlib.crc32(name), gpu // self.case.slices, layer]
        return np.random.default_rng([*seeds, *of_variant])

    def _most_activations(self, gpu: int) -> int:
        """The most activations that a layer has on ``gpu`` in all passes that are known."""
        case = self.case
        activations = len(self.routing.local[gpu]) * case.schedule.passes
        if not case.gating.invokes_all:
            activations = min(activations, case.trace.top_k * len(case.schedule.rows))
        return activations

    def _next_use(self, key: Key, active_experts: ActiveExperts) -> Ints | None:
        """The slice of the run's next uses that belongs to ``active_experts``; chunks come in
        order.
        """
        if key not in self._future:
            return None
        after, first_use = self._future[key]
        self._future[key] = after[len(active_experts.experts) :], first_use
        return np.ascontiguousarray(after[: len(active_experts.experts)])


def usage_of(case: Case, routing: Routing, layer: int, part: float | None = None) -> Ints:
    """Choices of each logical expert in the first ``part`` of the trace."""
    tokens = ceil(Fraction(str(part or LEARNING_PART)) * case.trace.tokens)
    ids = case.trace.expert_ids[:tokens, layer]
    counts: Ints = np.bincount(ids[ids != NO_EXPERT], minlength=routing.logical)
    return counts
