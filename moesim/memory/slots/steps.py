"""The steps of a pool: what each activation becomes, who is evicted for it, and who runs with whom,
one after another (docs/semantics.md); built for each policy and way to handle misses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
from moesim.memory.slots.decisions import CLOSED, first_by, is_own, lowest, offer_with, open_with
from moesim.memory.slots.split import add_miss, divide
from moesim.runtime.compiled import built_in, inlined, njit, types, whole_number


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


@njit(types.int64(types.int64[::1], types.int64[:, ::1]), cache=True)
def last_pinned(slot_of: Any, state: Any) -> Any:
    """Rule (d): the pinned expert whose layer comes last; of these the highest id."""
    last = -1
    for e in range(len(slot_of)):
        if slot_of[e] >= 0 and (last < 0 or state[PINNED, e] >= state[PINNED, last]):
            last = e
    return last


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


def begin_with(key: Any, own: bool, wants: bool) -> Callable[..., int]:
    """What begins a step of a policy with this ``key``; ``wants``: which reads who is wanted."""
    offer = inlined(offer_with(key, own))

    def begin(
        rules: Any, active: Any, low: int, high: int, cells: Any, state: Any, order: Any
    ) -> int:
        """Put the experts ``active[low:high]`` in their ``order``, and offer none that the step is
        not done with. Returns where those begin that are to come, ``low`` as they come.
        """
        _, slot_of, ranks, _, idle, _, _, index_of, _, _ = cells
        rest = low
        for i in range(low, high):
            e, slot = active[i], slot_of[active[i]]
            free = not rules.prefetched or state[PINNED, e] == 0
            if rules.protects and own:
                ranks[slot] = CLOSED
            elif rules.protects:
                idle[e] = False
            elif own and wants and slot >= 0 and free:
                offer(e, slot, ranks, idle, state)
            if not rules.resident_first:
                order[i] = e
            else:
                index_of[e] = i
                if slot >= 0 and (not rules.prefetched or state[ARRIVING, e] == 0):
                    order[rest] = e
                    rest += 1
        crossing = rest
        if rules.resident_first:
            for i in range(low, high):
                e = active[i]
                if slot_of[e] < 0 or (rules.prefetched and state[ARRIVING, e] != 0):
                    order[rest] = e
                    rest += 1
        return crossing

    return begin


def evict_with(key: Any, own: bool, recent: bool) -> Callable[..., tuple[int, int, bool, int]]:
    """What finds whom a miss evicts, by ``key``; ``recent``: which is the last use."""
    first_over = inlined(_first_there if recent else _first_over_by(key))

    def evict(
        protects: bool, span: tuple[int, int, int], so_far: tuple[bool, int], draw: float,
        cells: Any, state: Any, order: Any, launch_out: Any,
    ) -> tuple[int, int, bool, int]:  # fmt: skip
        """The victim of the miss at ``span[1]`` of a step's ``order[span[0]:span[2]]``; the launch
        it is needed by, -1 without one; and ``so_far`` after it: whether any is idle, and up to
        where those that the step is done with are gone.
        """
        _, slot_of, ranks, expert_at, idle, over, keys, _, _, _ = cells
        (low, i, high), (any_idle, gone), victim = span, so_far, -1
        if any_idle and own:
            victim = lowest(ranks, expert_at)  # rule (a)
        elif any_idle:
            victim = first_by(key, idle, state, draw, keys)
        if victim >= 0:
            j = i if protects else _place_of(victim, order, low, i)
            return victim, launch_out[j] if j < i else -1, any_idle, gone
        if own:  # rule (b)
            j = first_over(order, gone, i, slot_of, state)
            victim = order[j] if j >= 0 else -1
            gone = max(gone, j) if recent else low
        else:
            for k in range(low, i):
                over[order[k]] = slot_of[order[k]] >= 0
            victim = first_by(key, over, state, draw, keys)
            for k in range(low, i):
                over[order[k]] = False
            j = _place_of(victim, order, low, i)
        if victim >= 0:
            return victim, launch_out[j], not protects, gone
        j = high - 1  # rule (c): the one that comes last
        while j >= low and slot_of[order[j]] < 0:
            j -= 1
        return order[j] if j >= low else last_pinned(slot_of, state), -1, not protects, gone

    return evict


def form_with(place: Any, splits: bool) -> Callable[..., tuple[int, int, int]]:
    """What asks ``place`` for the form of a miss."""

    def form_of(
        most_loads: int, so_far: tuple[int, int, int], at: int, prices: Any, planned: Any
    ) -> tuple[int, int, int]:
        """The form of the miss ``at`` among active experts, and what a copy and the host take for
        it; ``so_far`` what those of its step have taken, and how many were loaded.
        """
        copy_ns = kernel_ns = host_ns = 0
        if prices.shape[1] > 0:
            copy_ns, kernel_ns, host_ns = prices[0, at], prices[1, at], prices[2, at]
        plan = planned[at] if splits else 0
        form = place(Missing(*so_far, copy_ns, kernel_ns, host_ns, most_loads, plan))
        return form, copy_ns, host_ns

    return form_of


def take_with(key: Any, reads: Reads) -> Callable[..., tuple[int, int, bool, int]]:
    """What gives a miss a slot, by the ``key`` of a policy that ``reads`` so much."""
    own, counts_load = is_own(reads), counts_in(reads, INSERTED)
    evict = built_in(evict_with(key, own, own and reads.is_row == LAST_USE))

    def take(
        rules: Any, what: tuple[int, int, float], span: tuple[int, int, int],
        so_far: tuple[bool, int], cells: Any, state: Any, out: Any,
    ) -> tuple[int, int, bool, int]:  # fmt: skip
        """As ``evict``, once the expert has one of so many slots at the policy time, by this draw
        (``what``, in this order); no victim where one is free.
        """
        used, slot_of, ranks, expert_at, idle, _, _, _, _, _ = cells
        (slots, now, draw), (any_idle, gone), victim, wait = what, so_far, -1, -1
        e, slot = out.expert[span[1]], used[0]
        if slot < slots:
            used[0] = slot + 1
        else:
            victim, wait, any_idle, gone = evict(
                rules.protects, span, so_far, draw, cells, state, out.expert, out.launch
            )
            slot, slot_of[victim] = slot_of[victim], -1
            if not own:
                idle[victim] = False
            if rules.prefetched:
                state[PINNED, victim] = state[ARRIVING, victim] = 0
        slot_of[e] = slot
        if own:
            expert_at[slot], ranks[slot] = e, CLOSED
        if counts_load:
            state[INSERTED, e] = now
        return victim, wait, any_idle, gone

    return take


def step_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., int]:  # fmt: skip
    """A step of ``decide_in_with``."""
    on_gpu, on_host, _, in_slot, _ = flags_of(forms)
    loads_all, alone = len(forms) == 1, without_room(tuple(forms))
    behind, own = any(form.in_background for form in forms), is_own(reads)
    count, plan_step = inlined(count_with(reads)), _divided if splits else _as_it_comes
    begin = built_in(begin_with(key, own, counts_in(reads, WANTED)))
    offer, take = built_in(offer_with(key, own)), built_in(take_with(key, reads))
    form_of = built_in(form_with(place, splits))

    def decide_step(
        rules: Any, slots: int, demand: Any, span: tuple[int, int], when: tuple[int, int, int],
        cells: Any, state: Any, out: Any,
    ) -> int:  # fmt: skip
        """Decide ``span`` of the experts in demand, the step of a pass and layer from a policy time
        on (``when``, in this order). Returns the time after it.
        """
        _, active, next_use, weights, prices, draws, moved = demand
        order, hit_out, launch_out, wait_out, victim_out, form_out = out
        used, slot_of, ranks, _, idle, _, _, index_of, planned, missing = cells
        (low, high), (this_pass, layer, now) = span, when
        crossing = begin(rules, active, low, high, cells, state, order)
        plan_step(active, low, high, slot_of, prices, moved, rules.loads_of, planned, missing)
        launch = members = loads = copied = hosted = 0
        crossed, any_idle, gone = not rules.resident_first, True, low
        for i in range(low, high):
            e = order[i]
            at, slot = index_of[e] if rules.resident_first else i, slot_of[e]
            hit, victim, wait, form, copy_ns, host_ns = slot >= 0, -1, -1, IN_SLOT, 0, 0
            if not (loads_all or hit):
                taken = copied, hosted, loads
                form, copy_ns, host_ns = form_of(rules.most_loads, taken, at, prices, planned)
            if behind and used[0] >= slots and not _some(ranks, idle):  # rule (a), or no copy
                form = alone[form]
            if loads_all or on_gpu[form]:
                new = rules.serial or (i >= crossing and not crossed)
                crossed = crossed or i >= crossing
                if new and members > 0:
                    launch, members = launch + 1, 0
            if loads_all or in_slot[form]:
                weight = weights[at] if len(weights) > 0 else 0
                before_activation(e, hit, this_pass, layer, weight, state)
                if not hit:
                    loads, copied = loads + 1, copied + copy_ns
                    what = slots, now, draws[now] if len(draws) > 0 else 0.0
                    victim, wait, any_idle, gone = take(
                        rules, what, (low, i, high), (any_idle, gone), cells, state, out
                    )
                    slot = slot_of[e]
                    if wait == launch:
                        launch, members = launch + 1, 0
            count(state, e, now, this_pass)
            if len(next_use) > 0:
                state[NEXT_USE, e] = next_use[at]
            if loads_all or in_slot[form]:
                after_activation(e, hit, victim, now, state)
            now += 1
            if not rules.protects and slot >= 0 and (not rules.prefetched or state[PINNED, e] == 0):
                offer(e, slot, ranks, idle, state)
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
        return now

    return decide_step


def steps_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., int]:  # fmt: skip
    """The steps of ``decide_in_with``, where slots are open."""
    tells_pass, tells_layer = counts_in(reads, THIS_PASS), counts_in(reads, THIS_LAYER)
    offer = inlined(offer_with(key, is_own(reads)))
    decide_step = built_in(
        step_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def decide_steps(
        rules: Any, slots: int, demand: Any, cells: Any, state: Any, first_step: int, now: int,
        out: Any,
    ) -> int:  # fmt: skip
        """As ``decide_in``, in ``cells`` that are open."""
        offsets, order, layers = demand.offsets, out.expert, rules.layers
        used, slot_of, ranks, _, idle, _, _, _, _, _ = cells
        this_pass, layer = (first_step - 1) // layers, (first_step - 1) % layers
        for step in range(len(offsets) - 1):
            layer += 1
            if layer == layers:
                this_pass, layer = this_pass + 1, 0
            if tells_pass:
                state[THIS_PASS, 0] = this_pass
            if tells_layer:
                state[THIS_LAYER, 0] = layer
            if rules.emptied and used[0] > 0:
                slot_of[:], ranks[:], idle[:] = -1, CLOSED, False
                used[0] = 0
            low, high = offsets[step], offsets[step + 1]
            when = this_pass, layer, now
            now = decide_step(rules, slots, demand, (low, high), when, cells, state, out)
            for i in range(low, high):
                e, slot = order[i], slot_of[order[i]]
                if slot >= 0 and (not rules.prefetched or state[PINNED, e] == 0):
                    offer(e, slot, ranks, idle, state)
        return now

    return decide_steps
