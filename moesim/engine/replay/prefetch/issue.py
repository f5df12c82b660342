"""Prefetches for the layers ahead, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

from moesim.engine.replay.clock.steps import inlined
from moesim.engine.replay.prefetch.arrays import (
    ACROSS_PASSES,
    BUDGET,
    BY_SOURCE,
    DEPTH,
    FIRST_MISSING,
    FLIGHT_BYTES,
    FLIGHT_END,
    LOADS,
    NOT_POOLED,
    PROMOTED_BYTES,
    QUEUED,
)
from moesim.engine.replay.prefetch.queue import enter
from moesim.engine.replay.prefetch.scans import count_in, find_free, leave_out
from moesim.engine.replay.prefetch.storage import lose
from moesim.engine.replay.prefetch.types import AT, UNDECIDED
from moesim.memory.decisions import FIRST
from moesim.memory.policy import INSERTED, PINNED
from moesim.runtime.compiled import record, types

_FIRST = types.FunctionType(FIRST)


class Ahead(NamedTuple):
    """A layer to prefetch for: its ``work``, the experts predicted, those from ``low`` to ``high``,
    and the pin that keeps them ``until`` it is decided.
    """

    work: Any
    low: Any
    high: Any
    until: Any


AHEAD = record(Ahead, *[types.int64] * len(Ahead._fields))


@inlined(types.int64(UNDECIDED, _FIRST, types.int64, types.int64))
def _victim(undecided: Any, first_of: Any, pool: int, own: int) -> int:
    """The resident that makes room in ``pool``, -1 without one; ``own``: which variant's pool it is
    of the layer just decided, whose active experts stay, -1: of none.
    """
    pools, activating, state = undecided.pools, undecided.activating, undecided.pools.state[pool]
    candidates = activating.candidates[: pools.size[pool]]
    count = find_free(pools.resident[pool], state[PINNED], candidates)
    if own >= 0:
        count = leave_out(activating.needed, undecided.variants.serves, own, candidates)
    if count == 0:
        return -1
    draw = undecided.draw_of(pool) if len(pools.draws) > 0 else 0.0
    return int(first_of(candidates, state, draw, activating.keys))


@inlined(types.int64(UNDECIDED, types.int64, types.int64, types.int64))
def _there(undecided: Any, pool: int, expert: int, variant: int) -> int:
    """The pool of the best variant that has ``expert`` and does where ``variant`` is wanted; -1
    without one. ``pool`` is that of the first.
    """
    last = len(undecided.variants.taken) if undecided.variants.how.worse else variant + 1
    for one in range(pool, pool + last):
        if undecided.pools.resident[one, expert]:
            return one
    return -1


@inlined(types.boolean(UNDECIDED, AHEAD, types.int64))
def pin(undecided: Any, ahead: Any, local: int) -> bool:
    """Keep the residents among those predicted for a layer ``ahead`` until it is decided; whether
    one of them is in no slot.
    """
    pools, predicted, lacks = undecided.pools, undecided.predicted, False
    pool, first = pools.of_work[ahead.work], pools.place[ahead.work] * local
    for i in range(ahead.low, ahead.high):
        e = first + predicted.experts[i] % local
        there = _there(undecided, pool, e, predicted.experts[i] // local)
        if there >= 0:
            pools.state[there][PINNED, e] = ahead.until
        else:
            lacks = True
    return lacks


@inlined(types.int64(UNDECIDED, _FIRST, AT, AHEAD, types.int64, types.int64))
def prefetch_for(
    undecided: Any, first_of: Any, at: Any, ahead: Any, allowed: int, issued: int
) -> int:
    """Prefetch the experts predicted for a layer ``ahead``, with at most ``allowed`` bytes in the
    queue; returns the copies issued in this layer, ``issued`` before.
    """
    pools, queue, sizes = undecided.pools, undecided.queue, undecided.beside.bytes
    layer, gpu, pool = ahead.work // at.gpus, ahead.work % at.gpus, pools.of_work[ahead.work]
    same, local, taken = pool == pools.of_work[at.work], at.local, undecided.variants.taken
    first, layers = pools.place[ahead.work] * local, queue.ended.shape[1]
    for variant in range(len(taken)):
        taken[variant] = count_in(pools.resident[pool + variant])
    for i in range(ahead.low, ahead.high):
        variant = undecided.predicted.experts[i] // local
        e, into = first + undecided.predicted.experts[i] % local, pool + variant
        shelf = variant * layers + layer
        flat = shelf * local - first
        there = _there(undecided, pool, e, variant) >= 0
        if there or queue.engine[gpu, QUEUED] + sizes[shelf] > allowed:
            continue
        if taken[variant] < pools.slots[into]:
            taken[variant] += 1
        else:
            victim = _victim(undecided, first_of, into, variant if same else -1)
            if victim < 0:
                continue
            pools.resident[into, victim] = False
            lose(undecided, at, gpu, flat + victim)
            queue.caused[gpu, flat + victim] = True
        pools.resident[into, e] = True
        state = pools.state[into]
        state[INSERTED, e], state[PINNED, e] = pools.now[into], ahead.until
        issued += 1
        queue.issued[gpu, flat + e] = at.now + issued * at.copy
        enter(queue, gpu, flat + e, sizes[shelf], ahead.until, variant)
        if len(undecided.stored.fresh) > 0:
            undecided.stored.fresh[issued - undecided.decided.told[LOADS] - 1] = flat + e
    return int(issued)


@inlined(types.void(UNDECIDED, AT, types.boolean))
def _mark_needed(undecided: Any, at: Any, is_needed: bool) -> None:
    """Say of the active experts of a work, numbered as in its pool, that they are needed, or no
    more.
    """
    pools, activating = undecided.pools, undecided.activating
    if pools.of_work[at.work] == NOT_POOLED:
        return
    first = pools.place[at.work] * at.local
    for i in range(activating.offsets[1]):
        e = first + activating.active_experts[i]
        activating.needed[e], undecided.variants.serves[e] = is_needed, activating.served[i]


@inlined(types.int64(UNDECIDED, _FIRST, AT))
def prefetch(undecided: Any, first_of: Any, at: Any) -> int:
    """Prefetch for the layers ahead of a work just decided; returns how many copies the host issues
    in it.
    """
    choices, pools, predicted = undecided.choices, undecided.pools, undecided.predicted
    active, source, gpu = predicted.active, at.work // at.gpus, at.work % at.gpus
    layers, engine, told = active.shape[1], undecided.queue.engine, undecided.decided.told
    allowed = choices[BUDGET] - told[PROMOTED_BYTES]
    if engine[gpu, FLIGHT_END] > at.now:
        allowed -= engine[gpu, FLIGHT_BYTES]
    _mark_needed(undecided, at, True)
    issued, end = told[LOADS], layers
    if choices[ACROSS_PASSES] != 0 and at.index + 1 < len(active):
        end += source + 1 if active[at.index + 1, source] else layers
    last = end
    for pinning in (True, False):
        place, passed = source + 1, 0
        while place < end and passed < choices[DEPTH]:
            index, layer = at.index + place // layers, place % layers
            until = (at.step + place // layers) * layers + layer + 1
            place += 1
            if not active[index, layer]:
                continue
            work = layer * at.gpus + gpu
            nearest = min(passed, len(predicted.index) - 1)
            origin = source if choices[BY_SOURCE] != 0 else nearest  # ``Predictions.origin``
            passed += 1
            row = predicted.index[origin, layer, gpu]
            low = predicted.base[row] + predicted.offsets[row, index]
            high = predicted.base[row] + predicted.offsets[row, index + 1]
            if pools.of_work[work] == NOT_POOLED:
                continue
            ahead = Ahead(work, low, high, until)
            if pinning:
                if pin(undecided, ahead, at.local) and choices[FIRST_MISSING] != 0:
                    last = min(last, place)
            elif low < high and place <= last:
                issued = prefetch_for(undecided, first_of, at, ahead, allowed, issued)
    _mark_needed(undecided, at, False)
    return int(issued)
