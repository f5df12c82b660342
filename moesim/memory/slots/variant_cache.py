"""Which variant of an expert serves an activation (docs/semantics.md, "Variants")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.activations import Activations, ActiveExperts, Ints
from moesim.memory.forms import IN_SLOT, Form
from moesim.memory.misses.base import MissHandling
from moesim.memory.misses.load import Load
from moesim.memory.policy import THIS_LAYER, THIS_PASS, WANTED, CachePolicy
from moesim.memory.policy_reads import Reads
from moesim.memory.slots.decisions import (
    ACTIVATIONS,
    RULES,
    Cells,
    Demand,
    Rules,
    is_own,
    open_with,
    places_of,
)
from moesim.memory.slots.residency import LayerCache, specialised_by
from moesim.memory.slots.split import OFFERED
from moesim.memory.slots.steps import steps_with
from moesim.memory.variants import Variants
from moesim.runtime.compiled import built_in, record, types


class Serving(NamedTuple):
    """Which variant serves: ``loaded`` int64[variants + 1], what is loaded where none that serves
    is resident, by the wanted one (its number of variants: nothing, the expert is left out);
    whether a ``worse`` one than wanted serves; ``upgraded`` and ``beside`` as ``Variants`` has
    them; and what is loaded ``instead`` where all of a step would be left out, -1: nothing.
    """

    loaded: Any
    worse: Any
    upgraded: Any
    instead: Any
    beside: Any


class Pools(NamedTuple):
    """The slots of each variant in a pool: ``slots`` int64[variants], which experts are
    ``resident`` bool[variants, experts], the policy's ``state`` int64[variants, rows, experts], its
    time ``now`` int64[variants], and ``draws`` float64[variants, activations].
    """

    slots: Any
    resident: Any
    state: Any
    now: Any
    draws: Any


class Wanted(NamedTuple):
    """What steps need: ``offsets`` and ``experts`` as of ``ActiveExperts``; aligned with these the
    ``variant`` that is wanted, and gate ``weights`` int64, or empty where no policy reads them.
    """

    offsets: Any
    experts: Any
    variant: Any
    weights: Any


class Room(NamedTuple):
    """Room to serve a pool in, so that compiled code makes no array and need not count who refers
    to one: ``Cells`` of each variant as [variants, ...], what is ``used`` of its slots and
    ``places`` of its ranks; of a ``step`` int64[2] what is ``served``, ``needed`` and their
    ``weights`` int64[active experts]; and ``none``, ``prices`` and ``moved`` where there are none.
    """

    slot_of: Any
    ranks: Any
    expert_at: Any
    idle: Any
    over: Any
    keys: Any
    index_of: Any
    used: Any
    places: Any
    step: Any
    served: Any
    needed: Any
    weights: Any
    none: Any
    prices: Any
    moved: Any

    @classmethod
    def of(cls, variants: int, experts: int, active: int, weighs: bool) -> Room:
        """Room for so many ``active`` experts."""
        most = int(places_of(experts, experts, experts))
        slot_of, keys, index_of = (
            np.empty(shape, np.int64) for shape in ((variants, experts), experts, experts)
        )
        ranks, expert_at = np.zeros((2, variants, most), np.int64)
        idle, over = np.empty((2, variants, experts), np.bool_)
        used, places = np.zeros((2, variants), np.int64)
        served, needed, weights = np.empty((3, active), np.int64)
        none, prices = np.empty(0, np.int64), np.empty((OFFERED, 0), np.int64)
        return cls(
            slot_of, ranks, expert_at, idle, over, keys, index_of, used, places,
            np.zeros(2, np.int64), served, needed, weights if weighs else none, none, prices,
            np.zeros((2, 1), np.int64),
        )  # fmt: skip


_FLAT, _INT = types.int64[::1], types.int64
_TABLE, _MASK = types.int64[:, ::1], types.boolean[:, ::1]
SERVING = record(Serving, _FLAT, types.boolean, types.int64[:, ::1], _INT, _INT)
POOLS = record(
    Pools, _FLAT, types.boolean[:, ::1], types.int64[:, :, ::1], _FLAT, types.float64[:, ::1]
)
ASKED = record(Wanted, *[_FLAT] * 4)
ROOM = record(Room, *[_TABLE] * 3, _MASK, _MASK, *[_FLAT] * 8, _FLAT, _TABLE, _TABLE)
SERVE = types.void(RULES, SERVING, POOLS, ASKED, ROOM, _INT, ACTIVATIONS)
"""The signature of what ``serve_with`` makes."""


@built_in
def serving_of(serving: Any, slots: Any, least: int, expert: int, wanted: int) -> int:
    """The variant that serves: the best resident one up to the wanted one, else the best of all if
    worse ones do, else what is loaded. Resident is what ``slots`` [variants, experts] have at
    ``least`` that for.
    """
    variants = len(slots)
    for variant in range(variants if serving.worse else min(wanted + 1, variants)):
        if slots[variant, expert] >= least:
            return variant
    return int(serving.loaded[wanted])


@built_in
def _of_variant(
    tells: Any, wanted: Any, served: Any, span: tuple[int, int, int], variant: int, state: Any,
    needed: Any, weights: Any,
) -> int:  # fmt: skip
    """Fill in, from the third place of ``span`` on, the experts ``needed`` of a step, those from
    the first to the second, that are ``served`` as ``variant``, and their weights, if these are
    read; returns where they end. ``tells``: the policy reads which variants they want.
    """
    experts, wants, of_experts = wanted.experts, wanted.variant, wanted.weights
    low, high, at = span
    for i in range(low, high):
        if served[i] == variant:
            expert = experts[i]
            if tells:
                state[WANTED, expert] = wants[i]
            needed[at] = expert
            if len(weights) > 0:
                weights[at] = of_experts[i]
            at += 1
    return at


@built_in
def some_served(served: Any, variants: int, instead: int) -> None:
    """Where all of a step would be left out, each is loaded as variant ``instead``."""
    some = instead < 0
    for i in range(len(served)):
        some |= served[i] < variants
    if not some:
        served[:] = instead


@built_in
def form_of(upgraded: Any, slot_of: Any, expert: int, variant: int) -> int:
    """How a missing ``variant`` is loaded: as its difference from the best slice that is there."""
    for worse in range(variant + 1, len(slot_of)):
        if upgraded[variant, worse] != variant and slot_of[worse, expert] >= 0:
            return int(upgraded[variant, worse])
    return variant


@built_in
def _renumber(
    out: Any, low: int, high: int, variant: int, launches: int, serving: Any, slot_of: Any,
    loads_all: bool,
) -> int:  # fmt: skip
    """Activations of ``variant``, whose launches follow so many; returns how many there are then.
    ``loads_all``: every miss is loaded, and ``out`` has no other forms.
    """
    last = launches
    for i in range(low, high):
        form, out.form[i] = 0 if loads_all else out.form[i], variant
        if form != IN_SLOT:
            out.form[i] = serving.beside + (form - 1) * len(slot_of) + variant
        elif not out.hit[i]:
            out.form[i] = form_of(serving.upgraded, slot_of, out.expert[i], variant)
        if out.launch[i] >= 0:
            out.launch[i] += launches
            last = max(last, out.launch[i] + 1)
        if out.wait[i] >= 0:
            out.wait[i] += launches
    return last


@built_in
def _skip(out: Any, at: int, experts: Any, served: Any, form: int) -> None:
    """The ``experts`` of a step that nothing computes, ``served`` as ``form``, from ``at`` on."""
    for i in range(len(experts)):
        if served[i] == form:
            out.expert[at], out.hit[at], out.form[at] = experts[i], False, form
            out.launch[at], out.wait[at], out.victim[at] = -1, -1, -1
            at += 1


@built_in
def _cells(room: Any, variant: int) -> Any:
    """The slots of ``variant``."""
    return Cells(
        room.used[variant : variant + 1], room.slot_of[variant],
        room.ranks[variant][: room.places[variant]], room.expert_at[variant], room.idle[variant],
        room.over[variant], room.keys, room.index_of, room.none, room.none,
    )  # fmt: skip


def serve_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., None]:  # fmt: skip
    """The decisions of a policy with these functions, variant by variant, as of
    ``decide_in_with``.
    """
    open_slots = built_in(open_with(key, is_own(reads)))
    serve_steps = built_in(
        serve_steps_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def serve(
        rules: Any, serving: Any, pools: Any, wanted: Any, room: Any, first_step: int, out: Any
    ) -> None:
        """The activations of every step of a pool, from ``first_step`` on."""
        for variant in range(len(pools.slots)):
            resident = pools.resident[variant]
            room.places[variant] = places_of(resident.sum(), pools.slots[variant], len(resident))
            open_slots(rules, _cells(room, variant), resident, pools.state[variant])
        serve_steps(rules, serving, pools, wanted, room, first_step, out)
        for variant in range(len(pools.slots)):
            for expert in range(room.slot_of.shape[1]):
                pools.resident[variant, expert] = room.slot_of[variant, expert] >= 0

    return serve


def serve_steps_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., None]:  # fmt: skip
    """The steps of ``serve_with``, where slots are open."""
    tells, loads_all = reads.rows is None or WANTED in reads.rows, len(forms) == 1
    # policies that read the step at hand are told of it in all variants, since prefetches ask them
    tells_all = reads.rows is None or bool({THIS_PASS, THIS_LAYER} & set(reads.rows))
    decide_steps = built_in(
        steps_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def serve_steps(
        rules: Any, serving: Any, pools: Any, wanted: Any, room: Any, first_step: int, out: Any
    ) -> None:
        """As ``serve``: variant by variant, the best first, each decided in its own slots, and last
        what is skipped.

        Which variant serves is decided at the start of a step, by what is resident then.
        """
        variants, slot_of, step, served = len(pools.slots), room.slot_of, room.step, room.served
        needed, weights, none = room.needed, room.weights, room.none
        for number in range(len(wanted.offsets) - 1):
            low, high = wanted.offsets[number], wanted.offsets[number + 1]
            for i in range(low, high):
                wants = wanted.variant[i]
                served[i] = serving_of(serving, slot_of, 0, wanted.experts[i], wants)
            if serving.instead >= 0:
                some_served(served[low:high], variants, serving.instead)
            at, launches = low, 0
            for variant in range(variants):
                state = pools.state[variant]
                end = _of_variant(
                    tells, wanted, served, (low, high, at), variant, state, needed, weights
                )
                if end == at and not tells_all:
                    continue
                step[0], step[1] = at, end  # in place: to cut a dozen arrays takes longer
                demand = Demand(
                    step, needed, none, weights, room.prices, pools.draws[variant], room.moved
                )
                pools.now[variant] = decide_steps(
                    rules, pools.slots[variant], demand, _cells(room, variant),
                    state, first_step + number, pools.now[variant], out,
                )  # fmt: skip
                launches = _renumber(out, at, end, variant, launches, serving, slot_of, loads_all)
                at = end
            _skip(out, at, wanted.experts[low:high], served[low:high], variants)

    return serve_steps


def serve_usually_with(*given: Any) -> Callable[..., None]:
    """As ``serve_with``, for steps as most runs have them."""
    serve_steps = built_in(serve_with(*given))

    def serve_usually(
        rules: Any, serving: Any, pools: Any, wanted: Any, room: Any, first_step: int, out: Any
    ) -> None:
        """As ``serve``, where ``is_usual``: what never holds then is left out of the code."""
        usual = Rules(rules.most_loads, 1, False, False, False, False, rules.loads_of, True)
        serve_steps(usual, serving, pools, wanted, room, first_step, out)

    return serve_usually


def is_usual(rules: Rules) -> bool:
    """Whether ``serve_usually`` serves steps of these ``rules``."""
    others = rules.serial, rules.resident_first, rules.emptied, rules.prefetched
    return rules.layers == 1 and rules.protects and not any(others)


def serving(variants: Variants) -> Serving:
    """How ``variants`` serve."""
    choice, count = variants.choice, len(variants.names)
    loaded = np.array(choice.loaded(count), np.int64)
    instead = count - 1 if choice.substitutes else -1
    return Serving(loaded, choice.worse, variants.upgraded, instead, variants.beside)


@lru_cache
def serve_of(
    policy: type[CachePolicy], miss: type[MissHandling] = Load, *, usual: bool = False
) -> Any:
    """``serve`` of ``policy`` and ``miss``, or ``serve_usually``, compiled; kept on disk."""
    return specialised_by(serve_usually_with if usual else serve_with, SERVE, policy, miss)


class VariantCache:
    """The residency of one MoE layer on one GPU, or of a pool of layers, where every expert has
    ``variants``: ``caches`` of each, which show what this one decides.
    """

    def __init__(
        self, policy: CachePolicy, variants: Variants, caches: Sequence[LayerCache]
    ) -> None:
        count = len(variants.names)
        self._serve, self.rules = serve_of(type(policy), caches[0].miss), caches[0].rules
        self._start_request = policy.start_request
        self.serving = serving(variants)
        self.slots = np.array([cache.slots for cache in caches], np.int64)
        self.resident = np.stack([cache.resident for cache in caches])
        self.state = np.stack([cache.state for cache in caches])
        self.draws = np.zeros((count, 0))
        self._now, self._step = np.zeros(count, np.int64), 0
        self.caches = caches
        for cache, resident, state in zip(caches, self.resident, self.state, strict=True):
            cache.resident, cache.state = resident, state

    def mark(self) -> tuple[Ints, int]:
        """What ``back`` goes back to, once the caches of all variants have."""
        return self._now.copy(), self._step

    def back(self, mark: tuple[Ints, int]) -> None:
        """Nothing has been decided since then."""
        self._now[:], self._step = mark

    def start_request(self) -> None:
        """The next forward pass has other requests than the one before."""
        for state in self.state:
            self._start_request(state, self._step // self.rules.layers)

    def decide(
        self, active: ActiveExperts, wanted: Ints, weights: Ints | None = None
    ) -> Activations:
        """The activations of the coming steps; the ``wanted`` variant and ``weights`` int64 are
        aligned with ``active.experts``. ``form`` is the variant that serves.
        """
        out = Activations.empty(len(active.experts))
        pools = Pools(self.slots, self.resident, self.state, self._now, self.draws)
        none = np.empty(0, np.int64)
        asked = Wanted(active.offsets, active.experts, wanted, none if weights is None else weights)
        variants, experts = self.resident.shape
        room = Room.of(variants, experts, len(active.experts), weights is not None)
        self._serve(self.rules, self.serving, pools, asked, room, self._step, out)
        self._step += len(active.offsets) - 1
        return out

    def decide_step(
        self, step: int, experts: Ints, wanted: Ints, weights: Ints | None = None
    ) -> Activations:
        """The activations of ``step``, which needs ``experts``; as in ``decide``."""
        self._step = step
        found = self.decide(ActiveExperts(np.array([0, len(experts)]), experts), wanted, weights)
        for cache, now in zip(self.caches, self._now.tolist(), strict=True):
            cache.now = now
        return found

    def served(self, experts: Ints, wanted: Ints) -> Ints:
        """The variant int64[experts] that serves each expert of a step, of the slots as they are;
        the number of variants where none does.
        """
        every = zip(experts.tolist(), wanted.tolist(), strict=True)
        served = [serving_of(self.serving, self.resident, 1, *one) for one in every]
        found = np.array(served, np.int64)
        some_served(found, len(self.caches), self.serving.instead)
        return found
