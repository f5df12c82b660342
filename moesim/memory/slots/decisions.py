"""Slots and victims one activation after another, compiled for each policy and way to handle misses
(docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.activations import Activations
from moesim.memory.forms import IN_SLOT, Form, flags_of, without_room
from moesim.memory.misses.base import Missing
from moesim.memory.policy import (
    ARRIVING,
    INSERTED,
    LAST_USE,
    NEXT_USE,
    PINNED,
    THIS_LAYER,
    THIS_PASS,
    WANTED,
)
from moesim.memory.policy_reads import Reads
from moesim.memory.slots.counting import count_with, counts_in
from moesim.memory.slots.split import add_miss, divide
from moesim.runtime.compiled import inlined, njit, record, types, whole_number

ROUND = 32
"""Ranks that are compared side by side."""
CLOSED = np.iinfo(np.int64).max
"""What no candidate is ranked above."""


class Rules(NamedTuple):
    """By what all steps of a run are decided: ``most_loads`` of a step; how many ``layers`` share
    the slots in turn; whether experts run one by one, whether residents go first, whether the slots
    are ``emptied`` before each step, and whether experts may be pinned, or still be arriving;
    ``loads_of`` int64 as for ``split.divide``; whether a step ``protects`` what it needs.
    """

    most_loads: Any
    layers: Any
    serial: Any
    resident_first: Any
    emptied: Any
    prefetched: Any
    loads_of: Any
    protects: Any


class Demand(NamedTuple):
    """What steps need: ``offsets`` and ``experts`` as of ``ActiveExperts``; aligned with these, or
    empty where they are not read, next uses, gate weights and ``prices`` int64[OFFERED, active
    experts]; ``draws`` by activation of the run; and ``moved`` as for ``split.divide``.
    """

    offsets: Any
    experts: Any
    next_use: Any
    weights: Any
    prices: Any
    draws: Any
    moved: Any


class Cells(NamedTuple):
    """The slots of a pool while steps are decided: how many are ``used`` int64[1]; ``slot_of``
    int64[experts], -1 without. By keys of experts alone (``is_own``) slots are ranked, as these
    change seldom: ``ranks`` and
    ``expert_at`` int64[places], CLOSED where one is no candidate; else experts are candidates:
    which are ``idle`` bool[experts], and room for those that the step is done with, ``over``, and
    for ``keys``. Room for where each expert stands, ``index_of``; and where misses are divided
    ``planned`` int64[active experts] of ones, and room for a step's ``missing``.
    """

    used: Any
    slot_of: Any
    ranks: Any
    expert_at: Any
    idle: Any
    over: Any
    keys: Any
    index_of: Any
    planned: Any
    missing: Any


_FLAT, _MASK, _STATE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
_INT, _BOOL = types.int64, types.boolean
RULES = record(Rules, _INT, _INT, _BOOL, _BOOL, _BOOL, _BOOL, _FLAT, _BOOL)
DEMAND = record(Demand, _FLAT, _FLAT, _FLAT, _FLAT, _STATE, types.float64[::1], _STATE)
ACTIVATIONS = record(Activations, _FLAT, _MASK, _FLAT, _FLAT, _FLAT, _FLAT)
FIRST = types.int64(_MASK, _STATE, types.float64, _FLAT)
"""The signature of what ``first_with`` makes."""
NO_ROOM = -2
CELLS = record(Cells, *[_FLAT] * 4, _MASK, _MASK, *[_FLAT] * 4)
_TUPLE: Any = types.UniTuple
PLACE_AHEAD = types.int64(_MASK, _STATE, _TUPLE(_INT, 4), _MASK, types.float64, _FLAT)
"""The signature of what ``place_ahead_with`` makes."""
DECIDE_IN = types.int64(RULES, _INT, DEMAND, _MASK, _STATE, _TUPLE(_INT, 2), ACTIVATIONS, CELLS)
"""The signature of what ``decide_in_with`` makes."""


@inlined
def first_by(key: Any, candidates: Any, state: Any, draw: float, keys: Any) -> int:
    """The one of ``candidates`` bool[experts] with the least key, of equals the lowest id; -1 where
    there is none. ``keys`` int64[experts] is room.

    Done in vectors: what ``key`` does not read of count and position is not worked out.
    """
    count, position, least = 0, 0, CLOSED
    for c in range(len(candidates)):
        count += candidates[c]
    for c in range(len(candidates)):
        value = CLOSED
        if candidates[c]:
            value = whole_number(key(c, state, draw, position, count))
            position += 1
        keys[c] = value
        least = min(least, value)
    if least == CLOSED:  # no candidate, but for keys as high as that
        for c in range(len(candidates)):
            if candidates[c]:
                return c
        return -1
    place = CLOSED
    for c in range(len(candidates)):
        place = min(place, c if keys[c] == least else CLOSED)
    return int(place)


def first_with(key: Any) -> Callable[..., int]:
    """Which of some candidates goes, by ``key``."""

    def first(candidates: Any, state: Any, draw: float, keys: Any) -> int:
        """As ``first_by``."""
        return int(first_by(key, candidates, state, draw, keys))

    return first


def place_ahead_with(key: Any) -> Callable[..., int]:
    """What gives an expert a slot ahead, by ``key``."""

    def place_ahead(
        resident: Any, state: Any, what: tuple[int, int, int, int], busy: Any, draw: float,
        keys: Any,
    ) -> int:  # fmt: skip
        """Of so many slots give one, at the policy time, to an expert, pinned as is said (``what``,
        in this order): the victim, -1 without one; NO_ROOM where there is none. ``busy``
        bool[experts], or nothing, stay. ``keys`` int64[experts] is room.
        """
        (slots, now, expert, pin), experts, victim = what, len(resident), -1
        if np.count_nonzero(resident) >= slots:
            candidates = np.empty(experts, np.bool_)
            for e in range(experts):
                candidates[e] = resident[e] and state[PINNED, e] == 0
                if len(busy) > 0 and busy[e]:
                    candidates[e] = False
            victim = int(first_by(key, candidates, state, draw, keys))
            if victim < 0:
                return NO_ROOM
            resident[victim], state[ARRIVING, victim] = False, 0
        resident[expert] = True
        state[INSERTED, expert], state[PINNED, expert], state[ARRIVING, expert] = now, pin, 1
        return victim

    return place_ahead


@inlined
def lowest(ranks: Any, expert_at: Any) -> int:
    """As ``first_by``, of the experts ``expert_at`` their slots by the ``ranks`` of these, CLOSED
    where one is no candidate.
    """
    least, lowest = CLOSED, CLOSED
    for slot in range(len(ranks)):
        least = min(least, ranks[slot])
    if least == CLOSED:
        return -1
    for slot in range(len(ranks)):
        lowest = min(lowest, expert_at[slot] if ranks[slot] == least else CLOSED)
    return int(lowest)


@inlined
def _some(ranks: Any, idle: Any) -> bool:
    """Whether rule (a) has a candidate: by the ``ranks`` of slots, or among experts that are
    ``idle``, of which one has no elements.
    """
    some = False
    for slot in range(len(ranks)):
        some |= ranks[slot] < CLOSED
    for e in range(len(idle)):
        some |= idle[e]
    return some


def _first_over_by(key: Any) -> Callable[..., int]:
    """What looks among experts that a step is done with, for a ``key`` of the expert alone."""

    def first_over(order: Any, low: int, high: int, slot_of: Any, state: Any) -> int:
        """As ``first_by``, of the residents among ``order[low:high]``; its place there."""
        first, least = -1, 0
        for j in range(low, high):
            e = order[j]
            if slot_of[e] >= 0:
                value = whole_number(key(e, state, 0.0, 0, 0))
                if first < 0 or value < least or (value == least and e < order[first]):
                    first, least = j, value
        return first

    return first_over


def _first_there(order: Any, low: int, high: int, slot_of: Any, _state: Any) -> int:
    """That by a key that is the last use: they were used in this order."""
    for j in range(low, high):
        if slot_of[order[j]] >= 0:
            return j
    return -1


@inlined
def _place_of(expert: int, order: Any, low: int, high: int) -> int:
    """Where ``expert`` is in ``order[low:high]``; ``high`` where it is not."""
    place = low
    while place < high and order[place] != expert:
        place += 1
    return place


@njit(types.int64(_FLAT, _STATE), cache=True)
def last_pinned(slot_of: Any, state: Any) -> Any:
    """Rule (d): the pinned expert whose layer comes last; of these the highest id."""
    last = -1
    for e in range(len(slot_of)):
        if slot_of[e] >= 0 and (last < 0 or state[PINNED, e] >= state[PINNED, last]):
            last = e
    return last


def open_with(key: Any, own: bool) -> Callable[..., None]:
    """What begins a run of steps of a policy with this ``key``."""

    def open_slots(rules: Any, cells: Any, resident: Any, state: Any) -> None:
        """Fill in ``cells`` as ``resident`` bool[experts] says."""
        used, slot_of, ranks, expert_at, idle, over = cells[:6]
        slot_of[:], ranks[:], idle[:], over[:] = -1, CLOSED, False, False
        slot = 0
        for e in range(len(resident)):
            if resident[e]:
                slot_of[e] = slot
                free = not rules.prefetched or state[PINNED, e] == 0
                if own:
                    expert_at[slot] = e
                    if free:
                        ranks[slot] = min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
                else:
                    idle[e] = free
                slot += 1
        used[0] = slot

    return open_slots


@inlined
def _divided(
    active: Any, low: int, high: int, slot_of: Any, prices: Any, moved: Any, loads_of: Any,
    planned: Any, missing: Any,
) -> None:  # fmt: skip
    """Divide the misses of a step, the experts ``active[low:high]``."""
    number = 0
    for i in range(low, high):
        if slot_of[active[i]] < 0:
            number = add_miss(missing, number, i, prices)
    divide(missing, number, prices, moved, loads_of, planned)


@inlined
def _as_it_comes(
    _active: Any, _low: int, _high: int, _slot_of: Any, _prices: Any, _moved: Any, _loads_of: Any,
    _planned: Any, _missing: Any,
) -> None:  # fmt: skip
    """Nothing is planned."""


def is_own(reads: Reads) -> bool:
    """Whether slots are ranked by keys of their experts alone."""
    told = [row in (reads.rows or ()) for row in (THIS_PASS, THIS_LAYER)]
    return reads.own and reads.rows is not None and not any(told)


@inlined
def places_of(used: int, slots: int, experts: int) -> int:
    """Places to rank slots in: the last one is that of experts without a slot, and never ranked.
    Vector instructions look at a round of places at once; of few they look at one by one.
    """
    places = max(used, min(slots, experts)) + 1
    return (places + ROUND - 1) // ROUND * ROUND if 2 * places > ROUND else places


@inlined
def new_cells(
    resident_first: bool, slots: int, active: int, experts: int, own: bool, splits: bool
) -> Any:
    """Cells for steps with so many ``active`` ones of a pool's ``experts``, in so many ``slots``;
    where more are resident, in as many as these.
    """
    places = places_of(0, slots, experts) if own else 0
    candidates = 0 if own else experts
    return Cells(
        np.zeros(1, np.int64), np.empty(experts, np.int64), np.empty(places, np.int64),
        np.zeros(places, np.int64), np.empty(candidates, np.bool_),
        np.empty(candidates, np.bool_), np.empty(candidates, np.int64),
        np.empty(experts if resident_first else 0, np.int64),
        np.ones(active if splits else 0, np.int64), np.empty(experts if splits else 0, np.int64),
    )  # fmt: skip


def decide_in_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., int]:  # fmt: skip
    """The decisions of a policy with these functions, that read what ``reads`` says, where
    ``place`` says which of ``forms`` a miss has; ``splits``: it is told what is planned. They make
    no array, so that references need no count.
    """
    open_slots = inlined(open_with(key, is_own(reads)))
    decide_steps = inlined(
        steps_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def decide_in(
        rules: Any, slots: int, demand: Any, resident: Any, state: Any, when: tuple[int, int],
        out: Any, cells: Any,
    ) -> int:  # fmt: skip
        """Slots and victims for every step of a pool; ``when``: the first step, and the policy time
        before its first activation. Returns that after the last one.

        ``out`` is filled in: but for ``victim`` where that is empty, and ``form`` where all are
        LOADED. ``cells`` are as ``new_cells`` makes them.
        """
        open_slots(rules, cells, resident, state)
        now = int(decide_steps(rules, slots, demand, cells, state, when[0], when[1], out))
        for e in range(len(resident)):
            resident[e] = cells.slot_of[e] >= 0
        return now

    return decide_in


def steps_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., int]:  # fmt: skip
    """The steps of ``decide_in_with``, where slots are open."""
    on_gpu, on_host, _, in_slot, _ = flags_of(forms)
    loads_all, alone = len(forms) == 1, without_room(tuple(forms))
    behind = any(form.in_background for form in forms)
    count, counts_load = inlined(count_with(reads)), counts_in(reads, INSERTED)
    tells_pass, tells_layer = counts_in(reads, THIS_PASS), counts_in(reads, THIS_LAYER)
    own, wants = is_own(reads), counts_in(reads, WANTED)
    recent = own and reads.is_row == LAST_USE
    first_over = inlined(_first_there if recent else _first_over_by(key))
    plan_step = _divided if splits else _as_it_comes

    def decide_steps(
        rules: Any, slots: int, demand: Any, cells: Any, state: Any, first_step: int, now: int,
        out: Any,
    ) -> int:  # fmt: skip
        """As ``decide_in``, in ``cells`` that are open."""
        most_loads, layers, serial, resident_first, emptied, prefetched, loads_of, protects = rules
        # in names of their own: counting references to members of tuples takes longer than the rest
        offsets, active, next_use, weights, prices, draws, moved = demand
        expert_out, hit_out, launch_out, wait_out, victim_out, form_out = out
        of_cells, slot_of, ranks, expert_at, idle, over, keys, index_of, planned, missing = cells
        used = of_cells[0]
        this_pass, layer = (first_step - 1) // layers, (first_step - 1) % layers
        for step in range(len(offsets) - 1):
            low, high = offsets[step], offsets[step + 1]
            layer += 1
            if layer == layers:
                this_pass, layer = this_pass + 1, 0
            if tells_pass:
                state[THIS_PASS, 0] = this_pass
            if tells_layer:
                state[THIS_LAYER, 0] = layer
            if emptied and used > 0:
                slot_of[:] = -1
                ranks[:] = CLOSED
                idle[:] = False
                used = 0
            rest = low
            for i in range(low, high):
                e, slot = active[i], slot_of[active[i]]
                if protects and own:
                    ranks[slot] = CLOSED
                elif protects:
                    idle[e] = False
                elif own and wants and slot >= 0 and (not prefetched or state[PINNED, e] == 0):
                    ranks[slot] = min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
                if not resident_first:
                    expert_out[i] = e
                else:
                    index_of[e] = i
                    if slot >= 0 and (not prefetched or state[ARRIVING, e] == 0):
                        expert_out[rest] = e
                        rest += 1
            crossing = rest
            if resident_first:
                for i in range(low, high):
                    e = active[i]
                    if slot_of[e] < 0 or (prefetched and state[ARRIVING, e] != 0):
                        expert_out[rest] = e
                        rest += 1
            plan_step(active, low, high, slot_of, prices, moved, loads_of, planned, missing)
            launch = members = loads = copied = hosted = 0
            crossed, any_idle, gone = not resident_first, True, low
            for i in range(low, high):
                e = expert_out[i]
                at, slot = index_of[e] if resident_first else i, slot_of[e]
                hit, victim, wait, form = slot >= 0, -1, -1, IN_SLOT
                copy_ns = kernel_ns = host_ns = 0
                if not (loads_all or hit):
                    if prices.shape[1] > 0:
                        copy_ns, kernel_ns, host_ns = prices[0, at], prices[1, at], prices[2, at]
                    plan, so_far = planned[at] if splits else 0, (copied, hosted, loads)
                    form = place(Missing(*so_far, copy_ns, kernel_ns, host_ns, most_loads, plan))
                if behind and used >= slots and not _some(ranks, idle):  # rule (a), or no copy
                    form = alone[form]
                if loads_all or on_gpu[form]:
                    new = serial
                    if i >= crossing and not crossed:
                        crossed = new = True
                    if new and members > 0:
                        launch += 1
                        members = 0
                if loads_all or in_slot[form]:
                    weight = weights[at] if len(weights) > 0 else 0
                    before_activation(e, hit, this_pass, layer, weight, state)
                    if not hit:
                        loads += 1
                        copied += copy_ns
                        if used < slots:
                            slot, used = used, used + 1
                        else:
                            draw = draws[now] if len(draws) > 0 else 0.0
                            if any_idle and own:
                                victim = lowest(ranks, expert_at)  # rule (a)
                            elif any_idle:
                                victim = first_by(key, idle, state, draw, keys)
                            if victim >= 0 and not protects:
                                j = _place_of(victim, expert_out, low, i)
                                wait = launch_out[j] if j < i else -1
                            elif victim < 0:  # rule (b)
                                any_idle, j = not protects, low
                                if own:
                                    j = first_over(expert_out, gone, i, slot_of, state)
                                    victim = expert_out[j] if j >= 0 else -1
                                    gone = max(gone, j) if recent else low
                                else:
                                    for k in range(low, i):
                                        over[expert_out[k]] = slot_of[expert_out[k]] >= 0
                                    victim = first_by(key, over, state, draw, keys)
                                    for k in range(low, i):
                                        over[expert_out[k]] = False
                                    while victim >= 0 and expert_out[j] != victim:
                                        j += 1
                                if victim >= 0:
                                    wait = launch_out[j]
                                else:
                                    j = high - 1  # rule (c): the one that comes last
                                    while j >= low and slot_of[expert_out[j]] < 0:
                                        j -= 1
                                    victim = (
                                        expert_out[j] if j >= low else last_pinned(slot_of, state)
                                    )
                            if wait == launch:
                                launch += 1
                                members = 0
                            slot = slot_of[victim]
                            slot_of[victim] = -1
                            if not own:
                                idle[victim] = False
                            if prefetched:
                                state[PINNED, victim] = state[ARRIVING, victim] = 0
                        slot_of[e] = slot
                        if own:
                            expert_at[slot], ranks[slot] = e, CLOSED
                        if counts_load:
                            state[INSERTED, e] = now
                count(state, e, now, this_pass)
                if len(next_use) > 0:
                    state[NEXT_USE, e] = next_use[at]
                if loads_all or in_slot[form]:
                    after_activation(e, hit, victim, now, state)
                now += 1
                if not protects and slot >= 0 and (not prefetched or state[PINNED, e] == 0):
                    if own:
                        ranks[slot] = min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
                    else:
                        idle[e] = True
                if loads_all or on_gpu[form]:
                    members += 1
                elif on_host[form]:
                    hosted += host_ns
                hit_out[i], wait_out[i] = hit, wait
                launch_out[i] = launch if loads_all or on_gpu[form] else -1
                if not loads_all:
                    form_out[i] = form
                if len(victim_out) > 0:
                    victim_out[i] = victim
            for i in range(low, high):
                e = expert_out[i]
                slot = slot_of[e]
                if slot >= 0 and (not prefetched or state[PINNED, e] == 0):
                    if own:
                        ranks[slot] = min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
                    else:
                        idle[e] = True
        of_cells[0] = used
        return now

    return decide_steps
