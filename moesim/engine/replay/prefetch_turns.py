"""The turns of one MoE layer on one GPU, decided on the clock; compiled."""

from __future__ import annotations

from typing import Any

from moesim.config.compiled import types
from moesim.engine.replay.prefetch_arrays import (
    MOST_LOADS,
    POOL_LAYERS,
    QUEUED,
    RESIDENT_FIRST,
    SERIAL,
    WAITING,
)
from moesim.engine.replay.prefetch_queue import drop
from moesim.engine.replay.prefetch_types import ASKED, POOLS, QUEUE, TURNING, in_place
from moesim.memory.decisions import DECIDE
from moesim.memory.forms import IN_SLOT
from moesim.memory.policy import ARRIVING, PINNED

_FLAT = types.int64[::1]


@in_place(types.void(ASKED, TURNING, types.int64, types.int64))
def read_needs(asked: Any, turning: Any, work: int, index: int) -> None:
    """The needs of a work in pass ``index`` of the chunk, and their rows."""
    low = asked.base[work] + asked.offsets[work, index]
    number = asked.offsets[work, index + 1] - asked.offsets[work, index]
    turning.offsets[1] = number
    for i in range(number):
        expert = asked.experts[low + i]
        turning.needs[i] = expert
        turning.own[expert], turning.kept[expert] = asked.rows[low + i], asked.kept[low + i]
        if len(asked.kept_weight) > 0:
            turning.kept_weight[expert] = asked.kept_weight[low + i]


@in_place(types.void(TURNING, types.boolean))
def all_hit(turning: Any, serial: bool) -> None:
    """The turns where every local expert has a slot."""
    for i in range(turning.offsets[1]):
        turning.expert[i], turning.hit[i] = turning.needs[i], True
        turning.arriving[turning.needs[i]] = False
        turning.wave[i] = i if serial else 0
        turning.wait[i], turning.victim[i], turning.form[i] = -1, -1, IN_SLOT


@in_place(
    types.void(POOLS, QUEUE, TURNING, _FLAT, types.int64, types.int64, types.int64, types.int64)
)
def end_prefetches(
    pools: Any, queue: Any, turning: Any, sizes: Any, local: int, work: int, gpus: int, now: int
) -> None:
    """Those for a layer end: its pins are lifted, what waits and is not needed is cancelled; and
    what of its needs has not arrived.
    """
    layer, gpu, pool = work // gpus, work % gpus, pools.of_work[work]
    first, flat = pools.place[work] * local, layer * local
    resident, state, needed = pools.resident[pool], pools.state[pool], turning.needed
    for e in range(first, first + local):
        state[PINNED, e] = 0
    number = turning.offsets[1]
    if queue.engine[gpu, QUEUED] > 0:
        for i in range(number):
            needed[turning.needs[i]] = True
        for e in range(local):
            if queue.arrival[gpu, flat + e] == WAITING and not needed[e]:
                drop(queue, gpu, flat + e, sizes[layer])
                resident[first + e] = False
        for i in range(number):
            needed[turning.needs[i]] = False
    for i in range(number):
        e = turning.needs[i]
        there = queue.arrival[gpu, flat + e] <= now
        turning.arriving[e] = not there and resident[first + e]
        state[ARRIVING, first + e] = turning.arriving[e]


@in_place(
    types.void(
        types.FunctionType(DECIDE), _FLAT, POOLS, ASKED, TURNING,
        types.int64, types.int64, types.int64, types.int64,
    ))  # fmt: skip
def decide_turns(
    decide: Any, choices: Any, pools: Any, asked: Any, turning: Any,
    local: int, work: int, index: int, step: int,
) -> None:  # fmt: skip
    """The turns of a work in pass ``index`` of the chunk, which is pass ``step``."""
    pool, place = pools.of_work[work], pools.place[work]
    low, number, first = (
        asked.base[work] + asked.offsets[work, index],
        turning.offsets[1],
        place * local,
    )
    high = low + number
    for i in range(number):
        turning.needs[i] += first
    next_use, weights, prices = asked.next_use, asked.weights, asked.prices
    if len(next_use) > 0:
        next_use = next_use[low:high]
    if len(weights) > 0:
        weights = weights[low:high]
    if prices.shape[1] > 0:
        prices = turning.prices[: 3 * number].reshape(3, number)
        for i in range(number):
            for what in range(3):
                prices[what, i] = asked.prices[what, low + i]
    pools.now[pool] = decide(
        choices[MOST_LOADS], prices, turning.offsets, turning.needs, next_use, weights,
        pools.draws[pools.draws_at[pool] : pools.draws_at[pool + 1]], pools.slots[pool],
        choices[SERIAL] != 0, choices[RESIDENT_FIRST] != 0, False, choices[POOL_LAYERS],
        step * choices[POOL_LAYERS] + place, pools.now[pool],
        pools.resident[pool][: pools.size[pool]], pools.state[pool],
        turning.expert, turning.hit, turning.wave, turning.wait, turning.victim, turning.form,
    )  # fmt: skip
    for i in range(number):
        turning.expert[i] -= first
        turning.needs[i] -= first
