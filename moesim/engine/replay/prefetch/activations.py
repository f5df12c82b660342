"""The activations of one MoE layer on one GPU, decided on the clock; compiled."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.steps import inlined
from moesim.engine.replay.prefetch.arrays import (
    MOST_LOADS,
    POOL_LAYERS,
    PROTECTS,
    QUEUED,
    RESIDENT_FIRST,
    SERIAL,
)
from moesim.engine.replay.prefetch.scans import lift
from moesim.engine.replay.prefetch.storage import lose
from moesim.engine.replay.prefetch.types import ACTIVATING, ASKED, AT, UNDECIDED
from moesim.memory.activations import Activations
from moesim.memory.decisions import DECIDE_IN, RULES, Demand, Rules
from moesim.memory.forms import IN_SLOT
from moesim.memory.policy import ARRIVING, PINNED
from moesim.memory.split import OFFERED
from moesim.memory.variant_cache import Pools as Slots
from moesim.memory.variant_cache import Wanted, serving_of, some_served
from moesim.runtime.compiled import types


@inlined(types.void(ASKED, ACTIVATING, types.int64, types.int64))
def read_active_experts(asked: Any, activating: Any, work: int, index: int) -> None:
    """The active experts of a work in pass ``index`` of the chunk, and their rows."""
    low = asked.base[work] + asked.offsets[work, index]
    number = asked.offsets[work, index + 1] - asked.offsets[work, index]
    activating.offsets[1] = number
    for i in range(number):
        activating.served[i] = 0
        expert = asked.experts[low + i]
        activating.active_experts[i] = expert
        activating.own[expert], activating.kept[expert] = asked.rows[low + i], asked.kept[low + i]
        if len(asked.kept_weight) > 0:
            activating.kept_weight[expert] = asked.kept_weight[low + i]


@inlined(types.void(ACTIVATING, types.boolean))
def all_hit(activating: Any, serial: bool) -> None:
    """The activations where every local expert has a slot."""
    for i in range(activating.offsets[1]):
        activating.expert[i], activating.hit[i] = activating.active_experts[i], True
        activating.arriving[activating.active_experts[i]] = False
        activating.launch[i] = i if serial else 0
        activating.wait[i], activating.victim[i], activating.form[i] = -1, -1, IN_SLOT


@inlined(types.void(UNDECIDED, AT))
def find_serving(undecided: Any, at: Any) -> None:
    """The variants that serve the active experts of a work, of the slots as they are."""
    pools, how, activating = undecided.pools, undecided.variants.how, undecided.activating
    variants, number = len(how.loaded) - 1, activating.offsets[1]
    if variants == 1:
        return
    pool, first = pools.of_work[at.work], pools.place[at.work] * at.local
    low = undecided.asked.base[at.work] + undecided.asked.offsets[at.work, at.index]
    resident = pools.resident[pool : pool + variants]
    for i in range(number):
        e, wanted = first + activating.active_experts[i], undecided.asked.wanted[low + i]
        activating.served[i] = serving_of(how, resident, 1, e, wanted)
    some_served(activating.served[:number], variants, how.instead)


@inlined(types.void(UNDECIDED, AT, types.int64, types.int64))
def _end_on_shelf(undecided: Any, at: Any, pool: int, variant: int) -> None:
    """Those for a layer in one variant end: see ``end_prefetches``."""
    pools, queue, activating = undecided.pools, undecided.queue, undecided.activating
    local, layers, gpu = at.local, queue.ended.shape[1], at.work % at.gpus
    layer, needed = at.work // at.gpus, activating.needed
    first, flat = pools.place[at.work] * local, (variant * layers + layer) * local
    resident, state = pools.resident[pool], pools.state[pool]
    lift(state[PINNED][first : first + local], at.step * layers + layer + 1)
    number, nobody = activating.offsets[1], queue.following.shape[1] - 1
    if queue.engine[gpu, QUEUED] > 0:
        for i in range(number):
            needed[activating.active_experts[i]] = activating.served[i] == variant
        waiting = queue.following[gpu, nobody]
        while waiting != nobody:
            e, waiting = waiting - flat, queue.following[gpu, waiting]
            if 0 <= e < local and not needed[e]:
                lose(undecided, at, gpu, flat + e)
                resident[first + e] = False
        for i in range(number):
            needed[activating.active_experts[i]] = False
    for i in range(number):
        e = activating.active_experts[i]
        if activating.served[i] == variant:
            there = queue.arrival[gpu, flat + e] <= at.now
            activating.arriving[e] = not there and resident[first + e]
            state[ARRIVING, first + e] = activating.arriving[e]


@inlined(types.void(UNDECIDED, AT))
def end_prefetches(undecided: Any, at: Any) -> None:
    """Those for a layer end: its pins are lifted, what waits and will not serve is cancelled; and
    what of its active experts has not arrived.
    """
    pool = undecided.pools.of_work[at.work]
    find_serving(undecided, at)
    for variant in range(len(undecided.variants.taken)):
        _end_on_shelf(undecided, at, pool + variant, variant)


@inlined(RULES(UNDECIDED))
def _rules(undecided: Any) -> Any:
    choices = undecided.choices
    return Rules(
        choices[MOST_LOADS], choices[POOL_LAYERS], choices[SERIAL] != 0,
        choices[RESIDENT_FIRST] != 0, False, True, undecided.pools.loads_of,
        choices[PROTECTS] != 0,
    )  # fmt: skip


@inlined(types.void(UNDECIDED, AT))
def serve_activations(undecided: Any, at: Any) -> None:
    """The activations of a work in a pass, variant by variant."""
    pools, asked, activating = undecided.pools, undecided.asked, undecided.activating
    pool, place, variants = pools.of_work[at.work], pools.place[at.work], undecided.variants
    until, number = pool + len(variants.taken), activating.offsets[1]
    low, first = asked.base[at.work] + asked.offsets[at.work, at.index], place * at.local
    for i in range(number):
        activating.active_experts[i] += first
    draws = pools.draws[pools.draws_at[pool] : pools.draws_at[until]]
    slots = Slots(
        pools.slots[pool:until], pools.resident[pool:until], pools.state[pool:until],
        pools.now[pool:until], draws.reshape(until - pool, len(draws) // (until - pool)),
    )  # fmt: skip
    weights = asked.weights
    if len(weights) > 0:
        weights = weights[low : low + number]
    wanted = Wanted(
        activating.offsets, activating.active_experts[:number], asked.wanted[low : low + number],
        weights,
    )  # fmt: skip
    out = Activations(
        activating.expert, activating.hit, activating.launch, activating.wait, activating.victim,
        activating.form,
    )  # fmt: skip
    step = at.step * undecided.choices[POOL_LAYERS] + place
    rules, room = _rules(undecided), variants.room
    variants.serve(rules, variants.how, slots, wanted, room, step, out)
    for i in range(number):
        activating.expert[i] -= first
        activating.active_experts[i] -= first


@inlined(types.void(UNDECIDED, AT))
def note_served(undecided: Any, at: Any) -> None:
    """Keep the forms in which a work is served, where experts have variants."""
    activating, served = undecided.activating, undecided.variants.served
    if len(served) > 0:
        for i in range(activating.offsets[1]):
            of_layer = served[at.index, at.work // at.gpus]
            of_layer[at.work % at.gpus, activating.expert[i]] = activating.form[i]


@inlined(types.void(UNDECIDED, types.FunctionType(DECIDE_IN), AT))
def decide_activations(undecided: Any, decide: Any, at: Any) -> None:
    """The activations of a work in a pass."""
    choices, pools, asked = undecided.choices, undecided.pools, undecided.asked
    activating, work = undecided.activating, at.work
    pool, place = pools.of_work[work], pools.place[work]
    low, number = asked.base[work] + asked.offsets[work, at.index], activating.offsets[1]
    first = place * at.local
    high = low + number
    for i in range(number):
        activating.active_experts[i] += first
    next_use, weights, prices = asked.next_use, asked.weights, asked.prices
    if len(next_use) > 0:
        next_use = next_use[low:high]
    if len(weights) > 0:
        weights = weights[low:high]
    if prices.shape[1] > 0:
        prices = activating.prices[: OFFERED * number].reshape(OFFERED, number)
        for i in range(number):
            for what in range(OFFERED):
                prices[what, i] = asked.prices[what, low + i]
    draws = pools.draws[pools.draws_at[pool] : pools.draws_at[pool + 1]]
    demand = Demand(
        activating.offsets, activating.active_experts, next_use, weights, prices, draws,
        undecided.beside.moved_ns,
    )  # fmt: skip
    out = Activations(
        activating.expert, activating.hit, activating.launch, activating.wait, activating.victim,
        activating.form,
    )  # fmt: skip
    planned = activating.cells.planned
    for i in range(min(number, len(planned))):
        planned[i] = 1
    when = at.step * choices[POOL_LAYERS] + place, pools.now[pool]
    pools.now[pool] = decide(
        _rules(undecided), pools.slots[pool], demand, pools.resident[pool][: pools.size[pool]],
        pools.state[pool], when, out, activating.cells,
    )  # fmt: skip
    for i in range(number):
        activating.expert[i] -= first
        activating.active_experts[i] -= first
