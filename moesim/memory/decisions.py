"""Slots and victims one activation after another, compiled for each policy and way to handle misses
(docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from moesim.memory.activations import Activations
from moesim.memory.forms import IN_SLOT, Form, flags_of
from moesim.memory.misses.base import Missing
from moesim.memory.policy import (
    ARRIVING,
    FREQUENCY,
    INSERTED,
    LAST_PASS,
    LAST_USE,
    NEXT_USE,
    PINNED,
    ROWS,
    THIS_LAYER,
    THIS_PASS,
)
from moesim.memory.policy_reads import Reads
from moesim.runtime.compiled import inlined, record, types

ROUND = 32
"""Ranks that are compared side by side."""
CLOSED = np.iinfo(np.int64).max
"""What no candidate is ranked above."""
IDS = 1 << 20
"""More than a pool has experts: the low part of a rank, so that of equals the lowest id goes."""
FAR = 1 << 42
"""From here on a key is too large for a rank, and keys are compared themselves."""


class Rules(NamedTuple):
    """By what all steps of a run are decided: ``most_loads`` of a step; how many ``layers`` share
    the slots in turn; whether experts run one by one, whether residents go first, whether the slots
    are ``emptied`` before each step, and whether experts may be pinned, or still be arriving.
    """

    most_loads: Any
    layers: Any
    serial: Any
    resident_first: Any
    emptied: Any
    prefetched: Any


class Demand(NamedTuple):
    """What steps need: ``offsets`` and ``experts`` as of ``ActiveExperts``; aligned with these, or
    empty where they are not read, next uses, gate weights and ``prices`` int64[3, active experts]
    of copy, kernel and host; and ``draws`` by activation of the run.
    """

    offsets: Any
    experts: Any
    next_use: Any
    weights: Any
    prices: Any
    draws: Any


class Slots(NamedTuple):
    """A pool while it is decided: the slot ``of`` each expert, or -1, and who may go by rule (a).

    Keys that are ``own`` change seldom: then ``ranks`` by slot have key and id as one number, or
    CLOSED; their last place is that of experts without a slot. Whether a key is too ``far`` for
    that. With other keys experts are ``idle``. ``index_of``: where in the demand a step's experts
    are; ``over`` and ``keys`` by expert are room to compare some.
    """

    of: Any
    ranks: Any
    idle: Any
    far: Any
    index_of: Any
    over: Any
    keys: Any


class Step(NamedTuple):
    """A step: its activations ``low:high``, of which those from ``crossing`` on are not resident
    where residents go first; its pass and the layer of the pool.
    """

    low: Any
    high: Any
    crossing: Any
    this_pass: Any
    layer: Any


class Decided(NamedTuple):
    """After a step: policy time ``now``, slots ``used``, its pass and layer."""

    now: Any
    used: Any
    this_pass: Any
    layer: Any


_FLAT, _MASK, _STATE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
_INT, _BOOL = types.int64, types.boolean
RULES = record(Rules, _INT, _INT, _BOOL, _BOOL, _BOOL, _BOOL)
DEMAND = record(Demand, _FLAT, _FLAT, _FLAT, _FLAT, _STATE, types.float64[::1])
ACTIVATIONS = record(Activations, _FLAT, _MASK, _FLAT, _FLAT, _FLAT, _FLAT)
FIRST = types.int64(_MASK, _STATE, types.float64)
"""The signature of what ``first_with`` makes."""
DECIDE = types.int64(RULES, _INT, DEMAND, _MASK, _STATE, _INT, _INT, ACTIVATIONS)
"""The signature of what ``decide_with`` makes."""


built_in = register_jitable(_nrt=False, forceinline=True)
"""As ``inlined``, for what makes no array: references to arrays that it is given are not counted,
which would take longer than the rest.
"""


@built_in
def _first(key: Any, candidates: Any, state: Any, draw: float, keys: Any) -> int:
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
            value = int(key(c, state, draw, position, count))
            position += 1
        keys[c] = value
        least = min(least, value)
    if least == CLOSED:  # no candidate, but for keys as high as that
        for c in range(len(candidates)):
            if candidates[c]:
                return c
        return -1
    place = 0
    while keys[place] != least:
        place += 1
    return place


def first_with(key: Any) -> Callable[..., int]:
    """Which of some candidates goes, by ``key``."""

    def first(candidates: Any, state: Any, draw: float) -> int:
        """The one of ``candidates`` bool[experts] with the least key, of equals the lowest id; -1
        where there is none.
        """
        keys = np.empty(len(candidates), np.int64)
        return int(_first(key, candidates, state, draw, keys))

    return first


@built_in
def _first_over(key: Any, order: Any, low: int, high: int, slot_of: Any, state: Any) -> int:
    """As ``_first``, of the residents among ``order[low:high]``, for a key of the expert alone; its
    place there.
    """
    first, least = -1, 0
    for j in range(low, high):
        e = order[j]
        if slot_of[e] >= 0:
            value = int(key(e, state, 0.0, 0, 0))
            if first < 0 or value < least or (value == least and e < order[first]):
                first, least = j, value
    return first


@built_in
def _prices(prices: Any, at: int) -> Any:
    return prices[0, at], prices[1, at], prices[2, at]


@built_in
def _last_over(order: Any, low: int, high: int, of: Any) -> int:
    """Rule (c): the resident among ``order[low:high]`` that comes last; its place, else below
    ``low``.
    """
    j = high - 1
    while j >= low and of[order[j]] < 0:
        j -= 1
    return j


@built_in
def _last_pinned(of: Any, state: Any) -> Any:
    """Rule (d): the pinned expert whose layer comes last; of these the highest id."""
    last = -1
    for e in range(len(of)):
        if of[e] >= 0 and (last < 0 or state[PINNED, e] >= state[PINNED, last]):
            last = e
    return last


@built_in
def _arrange(
    rules: Any, active: Any, low: int, high: int, slots: Any, state: Any, order: Any
) -> int:
    """Write the order of ``active[low:high]``; returns from where on they are not resident."""
    if not rules.resident_first:
        for i in range(low, high):
            order[i] = active[i]
        return low
    rest = low
    for turn in range(2):
        for i in range(low, high):
            e = active[i]
            slots.index_of[e] = i
            away = slots.of[e] < 0 or (rules.prefetched and state[ARRIVING, e] != 0)
            if away == (turn == 1):
                order[rest] = e
                rest += 1
        if turn == 0:
            crossing = rest
    return crossing


@inlined
def _room(used: int, slots: int, experts: int, own: bool, resident_first: bool) -> Any:
    """Empty ``Slots``; vector instructions look at a round of ranks at once, of few at one by
    one.
    """
    places, others = max(used, min(slots, experts)) + 1, 0 if own else experts
    if 2 * places > ROUND:
        places = (places + ROUND - 1) // ROUND * ROUND
    return Slots(
        np.full(experts, -1, np.int64), np.full(places if own else 0, CLOSED, np.int64),
        np.zeros(others, np.bool_), np.zeros(1, np.bool_),
        np.empty(experts if resident_first else 0, np.int64),
        np.zeros(experts, np.bool_), np.empty(experts, np.int64),
    )  # fmt: skip


def decide_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    reads: Reads,
) -> Callable[..., int]:  # fmt: skip
    """The decisions of a policy with these functions, that read what ``reads`` says, where
    ``place`` says which of ``forms`` a miss has.
    """
    on_gpu, on_host, _, in_slot, _ = flags_of(tuple(forms))
    loads_all = len(forms) == 1
    counted = [reads.rows is None or row in reads.rows for row in range(ROWS)]
    counts_use, counts_pass = counted[LAST_USE], counted[LAST_PASS]
    counts_load, counts_times = counted[INSERTED], counted[FREQUENCY]
    tells_pass, tells_layer = counted[THIS_PASS], counted[THIS_LAYER]
    own = reads.own and not (tells_pass or tells_layer)

    @built_in
    def free(rules: Any, e: int, slots: Any, state: Any) -> None:
        """Make ``e``, if it is in a slot and not pinned, a candidate of rule (a)."""
        slot = slots.of[e]
        if slot < 0 or (rules.prefetched and state[PINNED, e] != 0):
            return
        if own:
            value = int(key(e, state, 0.0, 0, 0))
            if value < -FAR or value >= FAR:
                slots.far[0] = True
                value = 0
            slots.ranks[slot] = value * IDS + e
        else:
            slots.idle[e] = True

    @built_in
    def idle_one(slots: Any, state: Any, draw: float) -> Any:
        """Rule (a): the policy's choice among what this step does not need, else -1."""
        if not own:
            return _first(key, slots.idle, state, draw, slots.keys)
        least = CLOSED
        for slot in range(len(slots.ranks)):
            least = min(least, slots.ranks[slot])
        if least == CLOSED:
            return -1
        if slots.far[0]:
            slots.over[:] = False
            for slot in range(len(slots.ranks)):
                if slots.ranks[slot] != CLOSED:
                    slots.over[slots.ranks[slot] & (IDS - 1)] = True
            return _first(key, slots.over, state, draw, slots.keys)
        return least & (IDS - 1)

    @built_in
    def over_one(order: Any, low: int, i: int, slots: Any, state: Any, draw: float) -> int:
        """Rule (b): the policy's choice among ``order[low:i]``; its place there, else -1."""
        if own:
            return _first_over(key, order, low, i, slots.of, state)
        slots.over[:] = False
        for k in range(low, i):
            slots.over[order[k]] = slots.of[order[k]] >= 0
        victim, j = _first(key, slots.over, state, draw, slots.keys), low
        while victim >= 0 and order[j] != victim:
            j += 1
        return j if victim >= 0 else -1

    @built_in
    def evict(rules: Any, victim: int, slots: Any, state: Any) -> Any:
        """Take the slot of ``victim``."""
        slot = slots.of[victim]
        slots.of[victim] = -1
        if not own:
            slots.idle[victim] = False
        if rules.prefetched:
            state[PINNED, victim] = state[ARRIVING, victim] = 0
        return slot

    @built_in
    def victim_of(
        step: Any, i: int, idle: bool, draw: float, slots: Any, state: Any, out: Any
    ) -> Any:
        """Who makes room at activation ``i``: the victim, the launch for which the copy waits or
        -1, and whether there may be another one that is ``idle``.
        """
        victim = idle_one(slots, state, draw) if idle else -1
        if victim >= 0:
            return victim, -1, True
        order = out.expert
        j = over_one(order, step.low, i, slots, state, draw)
        if j >= 0:
            return order[j], out.launch[j], False
        j = _last_over(order, step.low, step.high, slots.of)
        return order[j] if j >= step.low else _last_pinned(slots.of, state), -1, False

    @built_in
    def note(e: int, at: int, now: int, this_pass: int, demand: Any, state: Any) -> None:
        """What every activation writes."""
        if counts_use:
            state[LAST_USE, e] = now
        if counts_pass:
            state[LAST_PASS, e] = this_pass
        if counts_times:
            state[FREQUENCY, e] += 1
        if len(demand.next_use) > 0:
            state[NEXT_USE, e] = demand.next_use[at]

    @built_in
    def activate(
        rules: Any, number: int, demand: Any, step: Any, now: int, used: int, slots: Any,
        state: Any, out: Any,
    ) -> Any:  # fmt: skip
        """The activations of a step."""
        launch = members = loads = copied = hosted = 0
        crossed, idle = not rules.resident_first, True
        for i in range(step.low, step.high):
            e = out.expert[i]
            at, slot = slots.index_of[e] if rules.resident_first else i, slots.of[e]
            hit, victim, wait, form = slot >= 0, -1, -1, IN_SLOT
            copy_ns = kernel_ns = host_ns = 0
            if not (loads_all or hit):
                if demand.prices.shape[1] > 0:
                    copy_ns, kernel_ns, host_ns = _prices(demand.prices, at)
                so_far = (copied, hosted, loads)
                form = place(Missing(*so_far, copy_ns, kernel_ns, host_ns, rules.most_loads))
            runs, placed = loads_all or on_gpu[form], loads_all or in_slot[form]
            if runs:
                crosses = not crossed and i >= step.crossing
                crossed |= crosses
                if (rules.serial or crosses) and members > 0:
                    launch, members = launch + 1, 0
            if placed:
                weight = demand.weights[at] if len(demand.weights) > 0 else 0
                before_activation(e, hit, step.this_pass, step.layer, weight, state)
                if not hit:
                    loads, copied = loads + 1, copied + copy_ns
                    slot = used
                    if used < number:
                        used += 1
                    else:
                        draw = demand.draws[now] if len(demand.draws) > 0 else 0.0
                        victim, wait, idle = victim_of(step, i, idle, draw, slots, state, out)
                        if wait == launch:
                            launch, members = launch + 1, 0
                        slot = evict(rules, victim, slots, state)
                    slots.of[e] = slot
                    if own:
                        slots.ranks[slot] = CLOSED
                    if counts_load:
                        state[INSERTED, e] = now
            note(e, at, now, step.this_pass, demand, state)
            if placed:
                after_activation(e, hit, victim, now, state)
            now += 1
            members += runs
            if not loads_all:
                hosted += host_ns if on_host[form] else 0
                out.form[i] = form
            out.hit[i], out.wait[i], out.launch[i] = hit, wait, launch if runs else -1
            if len(out.victim) > 0:
                out.victim[i] = victim
        return now, used

    @built_in
    def step_of(
        rules: Any, number: int, demand: Any, step: int, before: Any, slots: Any, state: Any,
        out: Any,
    ) -> Any:  # fmt: skip
        """Decide ``step`` of a demand, after what was ``before`` it."""
        low, high, used = demand.offsets[step], demand.offsets[step + 1], before.used
        this_pass, layer = before.this_pass, before.layer + 1
        if layer == rules.layers:
            this_pass, layer = this_pass + 1, 0
        if tells_pass:
            state[THIS_PASS, 0] = this_pass
        if tells_layer:
            state[THIS_LAYER, 0] = layer
        if rules.emptied and used > 0:
            slots.of[:], slots.ranks[:], slots.idle[:], used = -1, CLOSED, False, 0
        crossing = _arrange(rules, demand.experts, low, high, slots, state, out.expert)
        for i in range(low, high):
            if own:
                slots.ranks[slots.of[demand.experts[i]]] = CLOSED
            else:
                slots.idle[demand.experts[i]] = False
        at = Step(low, high, crossing, this_pass, layer)
        now, used = activate(rules, number, demand, at, before.now, used, slots, state, out)
        for i in range(low, high):
            free(rules, demand.experts[i], slots, state)
        return Decided(now, used, this_pass, layer)

    @inlined
    def begin(rules: Any, number: int, resident: Any, state: Any, first_step: int, now: int) -> Any:
        """The ``Slots`` of a pool with ``number`` slots that holds ``resident`` bool[experts], and
        what is ``Decided`` before ``first_step``, at policy time ``now``.
        """
        if rules.emptied:
            resident[:] = False
        used, experts = 0, len(resident)
        for e in range(experts):
            used += resident[e]
        slots = _room(used, number, experts, own, rules.resident_first)
        used = 0
        for e in range(experts):
            if resident[e]:
                slots.of[e] = used
                used += 1
                free(rules, e, slots, state)
        last = first_step - 1
        return slots, Decided(now, used, last // rules.layers, last % rules.layers)

    @built_in
    def end(resident: Any, slots: Any) -> None:
        """Write who is ``resident``."""
        for e in range(len(resident)):
            resident[e] = slots.of[e] >= 0

    def decide(
        rules: Any, number: int, demand: Any, resident: Any, state: Any, first_step: int, now: int,
        out: Any,
    ) -> int:  # fmt: skip
        """Slots and victims for every step of a pool of ``number`` slots, from ``first_step`` on;
        returns the policy time after its last activation, ``now`` before its first.

        ``out`` is filled in: but for ``victim`` where that is empty, and ``form`` where all are
        LOADED.
        """
        slots, after = begin(rules, number, resident, state, first_step, now)
        for step in range(len(demand.offsets) - 1):
            after = step_of(rules, number, demand, step, after, slots, state, out)
        end(resident, slots)
        return int(after.now)

    return decide
