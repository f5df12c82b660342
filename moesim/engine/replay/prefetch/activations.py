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
    WAITING,
)
from moesim.engine.replay.prefetch.storage import lose
from moesim.engine.replay.prefetch.types import ACTIVATING, ASKED, AT, UNDECIDED
from moesim.memory.activations import Activations
from moesim.memory.decisions import DECIDE, Demand, Rules
from moesim.memory.forms import IN_SLOT
from moesim.memory.policy import ARRIVING, PINNED
from moesim.memory.split import OFFERED
from moesim.runtime.compiled import types


@inlined(types.void(ASKED, ACTIVATING, types.int64, types.int64))
def read_active_experts(asked: Any, activating: Any, work: int, index: int) -> None:
    """The active experts of a work in pass ``index`` of the chunk, and their rows."""
    low = asked.base[work] + asked.offsets[work, index]
    number = asked.offsets[work, index + 1] - asked.offsets[work, index]
    activating.offsets[1] = number
    for i in range(number):
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
def end_prefetches(undecided: Any, at: Any) -> None:
    """Those for a layer end: its pins are lifted, what waits and is not needed is cancelled; and
    what of its active experts has not arrived.
    """
    pools, queue, activating = undecided.pools, undecided.queue, undecided.activating
    work, local = at.work, at.local
    layer, gpu, pool = work // at.gpus, work % at.gpus, pools.of_work[work]
    first, flat = pools.place[work] * local, layer * local
    resident, state, needed = pools.resident[pool], pools.state[pool], activating.needed
    until = at.step * queue.ended.shape[1] + layer + 1
    for e in range(first, first + local):
        if state[PINNED, e] <= until:
            state[PINNED, e] = 0
    number = activating.offsets[1]
    if queue.engine[gpu, QUEUED] > 0:
        for i in range(number):
            needed[activating.active_experts[i]] = True
        for e in range(local):
            if queue.arrival[gpu, flat + e] == WAITING and not needed[e]:
                lose(undecided, at, gpu, flat + e)
                resident[first + e] = False
        for i in range(number):
            needed[activating.active_experts[i]] = False
    for i in range(number):
        e = activating.active_experts[i]
        there = queue.arrival[gpu, flat + e] <= at.now
        activating.arriving[e] = not there and resident[first + e]
        state[ARRIVING, first + e] = activating.arriving[e]


@inlined(types.void(UNDECIDED, types.FunctionType(DECIDE), AT))
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
    rules = Rules(
        choices[MOST_LOADS], choices[POOL_LAYERS], choices[SERIAL] != 0,
        choices[RESIDENT_FIRST] != 0, False, True, pools.loads_of,
        choices[PROTECTS] != 0,
    )  # fmt: skip
    draws = pools.draws[pools.draws_at[pool] : pools.draws_at[pool + 1]]
    demand = Demand(
        activating.offsets, activating.active_experts, next_use, weights, prices, draws,
        undecided.beside.moved_ns,
    )  # fmt: skip
    out = Activations(
        activating.expert, activating.hit, activating.launch, activating.wait, activating.victim,
        activating.form,
    )  # fmt: skip
    pools.now[pool] = decide(
        rules, pools.slots[pool], demand, pools.resident[pool][: pools.size[pool]],
        pools.state[pool], at.step * choices[POOL_LAYERS] + place, pools.now[pool], out,
    )  # fmt: skip
    for i in range(number):
        activating.expert[i] -= first
        activating.active_experts[i] -= first
