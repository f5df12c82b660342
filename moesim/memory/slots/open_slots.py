"""Slots that stay open between steps, for who decides one step at a time and gives experts slots
ahead in between; compiled. What a step does there is decided as everywhere (``decisions``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.activations import Activations
from moesim.memory.forms import Form
from moesim.memory.misses.base import MissHandling
from moesim.memory.policy import ARRIVING, INSERTED, PINNED, CachePolicy
from moesim.memory.policy_reads import Reads, reads_of
from moesim.memory.slots.decisions import (
    CLOSED,
    Cells,
    Demand,
    Rules,
    is_own,
    lowest,
    new_cells,
    open_with,
)
from moesim.memory.slots.residency import LayerCache, specialised_by
from moesim.memory.slots.steps import steps_with
from moesim.memory.slots.variant_cache import Room, Serving, Wanted, serve_steps_with
from moesim.runtime.bare import whole
from moesim.runtime.by_address import ByAddress
from moesim.runtime.compiled import built_in, njit, types, whole_number


class Slots(NamedTuple):
    """The slots of pools, side by side and padded to the widest: how many ``slots`` each has
    int64[pools], the policy's time ``now`` and its ``state`` int64[pools, rows, experts]; ``draws``
    float64 of all pools, each from ``draws_at`` int64[pools + 1] on. The rest as in ``Cells``, a
    row a pool. Pinned experts are no candidates.
    """

    slots: Any
    used: Any
    now: Any
    slot_of: Any
    ranks: Any
    expert_at: Any
    idle: Any
    state: Any
    draws: Any
    draws_at: Any


class _Pools(NamedTuple):
    """Slots of each variant, as in ``variant_cache.Pools``."""

    slots: Any
    state: Any
    now: Any
    draws: Any


class Deciding(NamedTuple):
    """What one step of a pool is decided by and in: ``rules`` as members; the ``slots``; room as in
    ``Cells`` and, for variants, in ``variant_cache.Room`` (``over`` has a row a variant) and
    ``Serving``; the step's ``experts``, of which ``offsets`` int64[2] says how many; of all steps,
    those aligned with them, as in ``Demand`` and ``Wanted``; and its ``Activations``.
    """

    most_loads: Any
    layers: Any
    serial: Any
    resident_first: Any
    protects: Any
    loads_of: Any
    slots: Any
    over: Any
    keys: Any
    index_of: Any
    planned: Any
    missing: Any
    offsets: Any
    experts: Any
    next_use: Any
    weights: Any
    prices: Any
    moved: Any
    wanted: Any
    expert: Any
    hit: Any
    launch: Any
    wait: Any
    victim: Any
    form: Any
    loaded: Any
    worse: Any
    upgraded: Any
    instead: Any
    beside: Any
    places: Any
    step: Any
    served: Any
    needed: Any
    weighed: Any
    none: Any
    no_prices: Any


_INT, _BOOL = types.int64, types.boolean
_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MARKS, _MASK, _DRAWS = types.boolean[::1], types.boolean[:, ::1], types.float64[::1]
SLOTS = ByAddress(
    Slots, *[_FLAT] * 3, *[_TABLE] * 3, _MASK, _CUBE, _DRAWS, _FLAT
)  # fmt: skip
DECIDING = ByAddress(
    Deciding, _INT, _INT, _BOOL, _BOOL, _BOOL, _FLAT, SLOTS, _MASK, *[_FLAT] * 8, _TABLE, _TABLE,
    _FLAT, _FLAT, _MARKS, *[_FLAT] * 5, _BOOL, _TABLE, _INT, _INT, *[_FLAT] * 6, _TABLE,
)  # fmt: skip
DECIDE_OPEN = types.void(DECIDING, *[_INT] * 7)
"""The signature of what ``decide_open_with`` makes."""


@built_in
def shut(slots: Any, pool: int, expert: int) -> None:
    """``expert``, which is in a slot, is no candidate of ``pool``."""
    if slots.ranks.shape[1] > 0:
        slots.ranks[pool, slots.slot_of[pool, expert]] = CLOSED
    else:
        slots.idle[pool, expert] = False


@built_in
def pin(slots: Any, pool: int, expert: int, until: int) -> None:
    """``expert`` stays ``until`` that layer of that pass is decided, if it is in a slot; whether it
    is would be guessed wrong.
    """
    slot, pinned = slots.slot_of[pool, expert], slots.state[pool, PINNED, expert]
    slots.state[pool, PINNED, expert] = until if slot >= 0 else pinned
    last = slots.ranks.shape[1] - 1  # the place of experts without a slot
    if last >= 0:
        slots.ranks[pool, slot if slot >= 0 else last] = CLOSED
    else:
        slots.idle[pool, expert] = False


@built_in
def vacate(slots: Any, pool: int, expert: int) -> None:
    """``expert`` leaves its slot, which the last one in use takes over: candidates are slots where
    they are ranked, and experts else.
    """
    slot_of, last = slots.slot_of, slots.used[pool] - 1
    shut(slots, pool, expert)
    slot, slot_of[pool, expert], slots.used[pool] = slot_of[pool, expert], -1, last
    slots.state[pool, PINNED, expert] = slots.state[pool, ARRIVING, expert] = 0
    if slots.ranks.shape[1] > 0 and slot != last:
        moved = slots.expert_at[pool, last]
        slot_of[pool, moved], slots.expert_at[pool, slot] = slot, moved
        slots.ranks[pool, slot], slots.ranks[pool, last] = slots.ranks[pool, last], CLOSED


@built_in
def occupy(slots: Any, pool: int, expert: int, victim: int, until: int) -> None:
    """``expert`` takes the slot of ``victim``, or a free one without one, and is pinned."""
    slot_of = slots.slot_of
    if victim >= 0:
        shut(slots, pool, victim)
        slot, slot_of[pool, victim] = slot_of[pool, victim], -1
    else:
        slot = slots.used[pool]
        slots.used[pool] = slot + 1
    slot_of[pool, expert] = slot
    if slots.ranks.shape[1] > 0:
        slots.expert_at[pool, slot] = expert
    slots.state[pool, INSERTED, expert] = slots.now[pool]
    pin(slots, pool, expert, until)


@njit(_INT(SLOTS, _INT), cache=True, _nrt=False)
def lowest_in(slots: Any, pool: int) -> int:
    """The candidate of ``pool`` that goes, where slots are ranked; -1 without one."""
    return int(lowest(whole(slots.ranks[pool]), whole(slots.expert_at[pool])))


@njit(_INT(SLOTS, _INT), cache=True, _nrt=False)
def candidates_in(slots: Any, pool: int) -> int:
    """How many candidates ``pool`` has, where experts are."""
    idle, count = whole(slots.idle[pool]), 0
    for e in range(len(idle)):
        count += idle[e]
    return count


def lift_with(key: Any, own: bool) -> Callable[..., None]:
    """What lifts pins, of a policy with this ``key``."""

    def lift(slots: Any, pool: int, first: int, local: int, until: int) -> None:
        """Experts of a layer, so many ``local`` ones from ``first`` on, may go if they were pinned
        up to ``until``.
        """
        pinned, slot_of = slots.state[pool, PINNED], slots.slot_of[pool]
        state, ranks, idle = whole(slots.state[pool]), slots.ranks[pool], slots.idle[pool]
        if own and local == len(slot_of):  # no other layer is in the pool: slots are fewer
            for slot in range(slots.used[pool]):
                e, rank = slots.expert_at[pool, slot], ranks[slot]
                pin, own_rank = pinned[e], min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
                lifts = (pin > 0) & (pin <= until)  # would be guessed wrong
                pinned[e], ranks[slot] = 0 if lifts else pin, own_rank if lifts else rank
            return
        for e in range(first, first + local):
            if 0 < pinned[e] <= until and slot_of[e] >= 0:
                pinned[e] = 0
                if own:
                    ranks[slot_of[e]] = min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
                else:
                    idle[e] = True

    return lift


def decide_open_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., None]:  # fmt: skip
    """The decisions of a policy with these functions, as ``steps.steps_with`` has them, in
    slots that stay open.
    """
    lift = built_in(lift_with(key, is_own(reads)))
    decide_steps = built_in(
        steps_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def decide_open(
        deciding: Any, pool: int, low: int, number: int, step: int, first: int, local: int,
        until: int,
    ) -> None:  # fmt: skip
        """``step`` of a pool, which needs a ``number`` of experts, those from ``low`` on in what is
        aligned with them; of a layer whose ``local`` experts in the pool are those from ``first``
        on, and whose pins go up to ``until``.
        """
        slots, splits_from = deciding.slots, min(number, len(deciding.planned))
        lift(slots, pool, first, local, until)
        for i in range(splits_from):
            deciding.planned[i] = 1
        rules = Rules(
            deciding.most_loads, deciding.layers, deciding.serial, deciding.resident_first, False,
            True, whole(deciding.loads_of), deciding.protects,
        )  # fmt: skip
        cells = Cells(
            whole(slots.used)[pool : pool + 1], whole(slots.slot_of[pool]),
            whole(slots.ranks[pool]), whole(slots.expert_at[pool]), whole(slots.idle[pool]),
            whole(deciding.over[0]), whole(deciding.keys), whole(deciding.index_of),
            whole(deciding.planned), whole(deciding.missing),
        )  # fmt: skip
        draws = whole(slots.draws)[slots.draws_at[pool] : slots.draws_at[pool + 1]]
        demand = Demand(
            whole(deciding.offsets), whole(deciding.experts), whole(deciding.next_use)[low:],
            whole(deciding.weights)[low:], whole(deciding.prices)[:, low:], draws,
            whole(deciding.moved),
        )  # fmt: skip
        out = Activations(
            whole(deciding.expert), whole(deciding.hit), whole(deciding.launch),
            whole(deciding.wait), whole(deciding.victim), whole(deciding.form),
        )  # fmt: skip
        state = whole(slots.state[pool])
        slots.now[pool] = decide_steps(
            rules, slots.slots[pool], demand, cells, state, step, slots.now[pool], out
        )

    return decide_open


def serve_open_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., None]:  # fmt: skip
    """As ``decide_open_with``, variant by variant (``variant_cache``)."""
    lift = built_in(lift_with(key, is_own(reads)))
    serve_steps = built_in(
        serve_steps_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def serve_open(
        deciding: Any, pool: int, low: int, number: int, step: int, first: int, local: int,
        until: int,
    ) -> None:  # fmt: skip
        """As ``decide_open``; ``pool`` is that of the first variant."""
        slots, variants = deciding.slots, len(deciding.loaded) - 1
        end, high = pool + variants, low + number
        for variant in range(variants):
            lift(slots, pool + variant, first, local, until)
        rules = Rules(
            deciding.most_loads, deciding.layers, deciding.serial, deciding.resident_first, False,
            True, whole(deciding.loads_of), deciding.protects,
        )  # fmt: skip
        how = Serving(
            whole(deciding.loaded), deciding.worse, whole(deciding.upgraded), deciding.instead,
            deciding.beside,
        )  # fmt: skip
        draws = whole(slots.draws)[slots.draws_at[pool] : slots.draws_at[end]]
        pools = _Pools(
            whole(slots.slots)[pool:end], whole(slots.state)[pool:end], whole(slots.now)[pool:end],
            draws.reshape(variants, len(draws) // variants),
        )  # fmt: skip
        weights = whole(deciding.weights)
        if len(weights) > 0:
            weights = weights[low:high]
        wanted = Wanted(
            whole(deciding.offsets), whole(deciding.experts)[:number],
            whole(deciding.wanted)[low:high], weights,
        )  # fmt: skip
        room = Room(
            whole(slots.slot_of)[pool:end], whole(slots.ranks)[pool:end],
            whole(slots.expert_at)[pool:end], whole(slots.idle)[pool:end], whole(deciding.over),
            whole(deciding.keys), whole(deciding.index_of), whole(slots.used)[pool:end],
            whole(deciding.places), whole(deciding.step), whole(deciding.served),
            whole(deciding.needed), whole(deciding.weighed), whole(deciding.none),
            whole(deciding.no_prices), whole(deciding.moved),
        )  # fmt: skip
        out = Activations(
            whole(deciding.expert), whole(deciding.hit), whole(deciding.launch),
            whole(deciding.wait), whole(deciding.victim), whole(deciding.form),
        )  # fmt: skip
        serve_steps(rules, how, pools, wanted, room, step, out)

    return serve_open


def start_request(
    policy: CachePolicy, slots: Slots, caches: Sequence[LayerCache], this_pass: int
) -> None:
    """Tell ``policy`` that pass ``this_pass`` begins anew in the ``slots`` of ``caches``."""
    own = is_own(reads_of(type(policy)))
    for pool, cache in enumerate(caches):
        state, pinned = slots.state[pool, :, : len(cache.resident)], slots.state[pool, PINNED]
        policy.start_request(state, this_pass)
        for slot in range(slots.used[pool] if own else 0):
            e = slots.expert_at[pool, slot]
            if pinned[e] == 0:
                slots.ranks[pool, slot] = min(policy.key(e, state, 0.0, 0, 0), CLOSED - 1)


@lru_cache
def decide_open_of(policy: type[CachePolicy], miss: type[MissHandling], *, variants: bool) -> Any:
    """What decides steps of ``policy`` and ``miss`` in open slots, compiled; kept on disk."""
    make = serve_open_with if variants else decide_open_with
    return specialised_by(make, DECIDE_OPEN, policy, miss)


def opened(policy: type[CachePolicy], caches: Sequence[LayerCache]) -> Slots:
    """The slots of ``caches``, of one ``policy``, as they are, without draws."""
    number, own = len(caches), is_own(reads_of(policy))
    width, rows = max(len(cache.resident) for cache in caches), len(caches[0].state)
    room = max(max(cache.slots, int(cache.resident.sum())) for cache in caches), 0, width
    open_slots, cells = open_with(policy.key, own), new_cells(False, *room, own, False)
    slots = Slots(
        slots=np.array([cache.slots for cache in caches]), used=np.zeros(number, np.int64),
        now=np.zeros(number, np.int64), slot_of=np.full((number, width), -1),
        ranks=np.full((number, len(cells.ranks)), CLOSED),
        expert_at=np.zeros((number, len(cells.ranks)), np.int64),
        idle=np.zeros((number, len(cells.idle)), np.bool_),
        state=np.zeros((number, rows, width), np.int64),
        draws=np.zeros(0), draws_at=np.zeros(1 + number, np.int64),
    )  # fmt: skip
    for pool, cache in enumerate(caches):
        experts = len(cache.resident)
        slots.state[pool, :, :experts] = cache.state
        open_slots(cache.rules, cells, cache.resident, cache.state)
        slots.used[pool], slots.slot_of[pool, :experts] = cells.used[0], cells.slot_of[:experts]
        slots.ranks[pool], slots.expert_at[pool] = cells.ranks, cells.expert_at
        slots.idle[pool, : experts if not own else 0] = cells.idle[:experts]
    return slots
