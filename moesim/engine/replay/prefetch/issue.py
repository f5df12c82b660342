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
from moesim.engine.replay.prefetch.storage import account_of, lose
from moesim.engine.replay.prefetch.types import AT, UNDECIDED, part
from moesim.memory.slots.decisions import CLOSED, FIRST
from moesim.memory.slots.open_slots import candidates_in, lowest_in, occupy
from moesim.memory.slots.open_slots import pin as pin_in
from moesim.runtime.bare import whole
from moesim.runtime.compiled import record, types

_INT, _FIRST = types.int64, types.FunctionType(FIRST)
_TUPLE: Any = types.UniTuple


class Ahead(NamedTuple):
    """A layer to prefetch for: its ``work`` in pass ``step``, the experts predicted, those from
    ``low`` to ``high``, and the pin that keeps them ``until`` it is decided.
    """

    work: Any
    layer: Any
    step: Any
    low: Any
    high: Any
    until: Any


AHEAD = record(Ahead, *[_INT] * len(Ahead._fields))


@inlined(_INT(UNDECIDED, _FIRST, _INT))
def _first(undecided: Any, first_of: Any, pool: int) -> int:
    """The candidate that makes room in ``pool``, -1 without one."""
    slots = undecided.deciding.slots
    if slots.ranks.shape[1] > 0:
        return int(lowest_in(slots, pool))
    if candidates_in(slots, pool) == 0:
        return -1
    draw = undecided.draw_of(pool) if len(slots.draws) > 0 else 0.0
    idle, state = whole(slots.idle[pool]), whole(slots.state[pool])
    return int(first_of(idle, state, draw, whole(undecided.activating.keys)))


@part(_INT(UNDECIDED, _FIRST, AT, _INT, _INT))
def _victim(undecided: Any, first_of: Any, at: Any, pool: int, own: int) -> int:
    """As ``_first``; ``own``: which variant's pool it is of the layer just decided, whose active
    experts stay, -1: of none.
    """
    deciding, ranked = undecided.deciding, undecided.activating.ranked
    slots, first, ranks = deciding.slots, at.place * at.local, deciding.slots.ranks.shape[1] > 0
    number = deciding.offsets[1] if own >= 0 else 0
    for i in range(number):
        e = first + deciding.experts[i]
        if deciding.served[i] != own or slots.slot_of[pool, e] < 0:
            continue
        if ranks:
            slot = slots.slot_of[pool, e]
            ranked[i], slots.ranks[pool, slot] = slots.ranks[pool, slot], CLOSED
        else:
            ranked[i], slots.idle[pool, e] = slots.idle[pool, e], False
    victim = _first(undecided, first_of, pool)
    for i in range(number):
        e = first + deciding.experts[i]
        if deciding.served[i] != own or slots.slot_of[pool, e] < 0:
            continue
        if ranks:
            slots.ranks[pool, slots.slot_of[pool, e]] = ranked[i]
        else:
            slots.idle[pool, e] = ranked[i] != 0
    return int(victim)


@inlined(_INT(UNDECIDED, _INT, _INT, _INT))
def _there(undecided: Any, pool: int, expert: int, variant: int) -> int:
    """The pool of the best variant that has ``expert`` and does where ``variant`` is wanted; -1
    without one. ``pool`` is that of the first.
    """
    deciding, found = undecided.deciding, -1
    last = undecided.variants.number if deciding.worse else variant + 1
    for one in range(pool + last - 1, pool - 1, -1):
        found = one if deciding.slots.slot_of[one, expert] >= 0 else found
    return found


@inlined(_TUPLE(_INT, 2)(UNDECIDED, _INT, _INT))
def _told(undecided: Any, i: int, local: int) -> tuple[int, int]:
    """Prediction ``i``: the expert and its variant."""
    numbered = undecided.predicted.experts[i]
    if undecided.variants.number == 1:
        return numbered, 0
    return numbered % local, numbered // local


@part(_INT(UNDECIDED, AHEAD, _INT, _INT))
def pin(undecided: Any, ahead: Any, local: int, number: int) -> int:
    """Keep the residents among those predicted for a layer ``ahead`` until it is decided; those in
    no slot are noted behind a ``number`` of ``lacking`` ones. Returns how many these are now.
    """
    lacking, slots = undecided.activating.lacking, undecided.deciding.slots
    pools = undecided.pools
    pool, first = pools.of_work[ahead.work], pools.place[ahead.work] * local
    for i in range(ahead.low, ahead.high):
        e, variant = _told(undecided, i, local)
        there = _there(undecided, pool, first + e, variant)
        pin_in(slots, max(there, pool), first + e, ahead.until)
        lacking[number, 0], lacking[number, 1] = ahead.layer, ahead.step
        lacking[number, 2], lacking[number, 3] = e, variant
        number += there < 0
    return number


@part(_INT(UNDECIDED, _FIRST, AT, *[_INT] * 3))
def prefetch_lacking(
    undecided: Any, first_of: Any, at: Any, number: int, allowed: int, issued: int
) -> int:
    """Prefetch so many of the ``lacking``, with at most ``allowed`` bytes in the queue; returns the
    copies issued in this layer, ``issued`` before.
    """
    pools, queue, lacking = undecided.pools, undecided.queue, undecided.activating.lacking
    slots, layers = undecided.deciding.slots, undecided.predicted.active.shape[1]
    stores, gpu = len(undecided.stored.fresh) > 0, at.gpu
    for i in range(number):
        layer, step, e, variant = lacking[i, 0], lacking[i, 1], lacking[i, 2], lacking[i, 3]
        work, until = layer * len(undecided.local) + gpu, step * layers + layer + 1
        pool, first = pools.of_work[work], pools.place[work] * at.local
        shelf, into, victim = variant * layers + layer, pool + variant, -1
        if _there(undecided, pool, first + e, variant) >= 0:
            continue
        if queue.engine[gpu, QUEUED] + queue.bytes[shelf] > allowed:
            continue
        x = shelf * at.local + e
        if slots.used[into] >= slots.slots[into]:
            own = variant if pool == at.pool else -1
            victim = _victim(undecided, first_of, at, into, own)
            if victim < 0:
                continue
            lose(undecided, gpu, x + victim - first - e)
            queue.caused[gpu, x + victim - first - e] = True
        occupy(slots, into, first + e, victim, until)
        issued += 1
        queue.issued[gpu, x] = at.now + issued * at.copy
        enter(queue, gpu, x, until, account_of(undecided, layer, step, variant))
        if stores:
            undecided.stored.fresh[issued - undecided.decided.told[LOADS] - 1] = x
    return int(issued)


@inlined(AHEAD(UNDECIDED, AT, _INT, _INT, _INT))
def ahead_of(undecided: Any, at: Any, origin: int, layer: int, index: int) -> Any:
    """What is predicted, seen from ``origin``, for a ``layer`` of pass ``index`` of the chunk."""
    predicted, step = undecided.predicted, at.step + index - at.index
    work, row = layer * len(undecided.local) + at.gpu, predicted.index[origin, layer, at.gpu]
    low = predicted.base[row] + predicted.offsets[row, index]
    high = predicted.base[row] + predicted.offsets[row, index + 1]
    if undecided.pools.of_work[work] == NOT_POOLED:
        high = low
    until = step * predicted.active.shape[1] + layer + 1
    return Ahead(work, layer, step, low, high, until)


@inlined(_INT(UNDECIDED, _FIRST, AT))
def prefetch(undecided: Any, first_of: Any, at: Any) -> int:
    """Prefetch for the layers ahead of a work just decided; returns how many copies the host issues
    in it.
    """
    choices, predicted = undecided.choices, undecided.predicted
    active, source, engine = predicted.active, at.layer, undecided.queue.engine[at.gpu]
    layers, told = active.shape[1], undecided.decided.told
    allowed = choices[BUDGET] - told[PROMOTED_BYTES]
    if engine[FLIGHT_END] > at.now:
        allowed -= engine[FLIGHT_BYTES]
    end, index, layer = layers, at.index, source + 1
    if choices[ACROSS_PASSES] != 0 and at.index + 1 < len(active):
        end += source + 1 if active[at.index + 1, source] else layers
    passed = number = 0
    for _ in range(source + 1, end):
        if layer == layers:
            layer, index = 0, index + 1
        if passed == choices[DEPTH]:
            break
        if active[index, layer]:
            nearest = min(passed, len(predicted.index) - 1)
            origin = source if choices[BY_SOURCE] != 0 else nearest  # ``Predictions.origin``
            passed += 1
            ahead = ahead_of(undecided, at, origin, layer, index)
            noted = pin(undecided, ahead, at.local, number)
            if number == 0 or choices[FIRST_MISSING] == 0:
                number = noted
        layer += 1
    return int(prefetch_lacking(undecided, first_of, at, number, allowed, told[LOADS]))
