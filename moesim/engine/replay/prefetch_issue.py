"""Prefetches for the layers ahead, compiled."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.callback import DRAW
from moesim.engine.replay.prefetch_arrays import (
    ACROSS_PASSES,
    BUDGET,
    DEPTH,
    FLIGHT_BYTES,
    FLIGHT_END,
    LOADS,
    NOT_POOLED,
    PROMOTED_NOW,
    QUEUED,
)
from moesim.engine.replay.prefetch_queue import drop, enter
from moesim.engine.replay.prefetch_types import (
    ACTIVATING,
    DECIDED,
    POOLS,
    PREDICTED,
    QUEUE,
    in_place,
)
from moesim.memory.decisions import FIRST
from moesim.memory.policy import INSERTED, PINNED
from moesim.runtime.compiled import types

_FLAT, _FIRST = types.int64[::1], types.FunctionType(FIRST)


@in_place(
    types.int64(
        _FIRST, types.FunctionType(DRAW), POOLS, types.int64, types.boolean,
        ACTIVATING,
    ))  # fmt: skip
def _victim(first_of: Any, draw_of: Any, pools: Any, pool: int, own: bool, activating: Any) -> int:
    """The resident that makes room in ``pool``, -1 without one; ``own``: the pool of the layer
    just decided, whose active experts stay.
    """
    resident, state = pools.resident[pool], pools.state[pool]
    candidates, count = activating.candidates, 0
    for c in range(pools.size[pool]):
        candidates[c] = resident[c] and state[PINNED, c] == 0 and not (own and activating.needed[c])
        count += candidates[c]
    if count == 0:
        return -1
    draw = draw_of(pool) if len(pools.draws) > 0 else 0.0
    return int(first_of(candidates[: pools.size[pool]], state, draw))


@in_place(types.void(POOLS, PREDICTED, *[types.int64] * 5))
def _pin(
    pools: Any, predicted: Any, local: int, target: int, low: int, high: int, until: int
) -> None:
    """Keep the residents among predicted[low:high] of the work ``target`` until it is decided."""
    pool, first = pools.of_work[target], pools.place[target] * local
    for i in range(low, high):
        e = first + predicted.experts[i]
        if pools.resident[pool, e]:
            pools.state[pool][PINNED, e] = until


@in_place(
    types.int64(
        _FIRST, types.FunctionType(DRAW), POOLS, QUEUE, ACTIVATING, PREDICTED, _FLAT,
        types.int64, types.int64, types.int64, types.int64, types.int64, types.boolean,
        types.int64, types.int64, types.int64, types.int64, types.int64,
    ))  # fmt: skip
def _prefetch_for(
    first_of: Any, draw_of: Any, pools: Any, queue: Any, activating: Any, predicted: Any,
    sizes: Any, local: int, target: int, gpus: int, low: int, high: int, own: bool, pin: int,
    allowed: int, issued: int, now: int, to_copy: int,
) -> int:  # fmt: skip
    """Prefetch the experts predicted[low:high] of the work ``target``, with at most ``allowed``
    bytes in the queue; returns the copies issued in this layer, ``issued`` before.
    """
    layer, gpu, pool = target // gpus, target % gpus, pools.of_work[target]
    resident, state, first = pools.resident[pool], pools.state[pool], pools.place[target] * local
    flat, held = layer * local - first, 0
    for c in range(pools.size[pool]):
        held += resident[c]
    for i in range(low, high):
        e = first + predicted.experts[i]
        if resident[e] or queue.engine[gpu, QUEUED] + sizes[layer] > allowed:
            continue
        if held < pools.slots[pool]:
            held += 1
        else:
            victim = _victim(first_of, draw_of, pools, pool, own, activating)
            if victim < 0:
                continue
            resident[victim] = False
            drop(queue, gpu, flat + victim, sizes[(flat + victim) // local])
            queue.caused[gpu, flat + victim] = True
        resident[e] = True
        state[INSERTED, e], state[PINNED, e] = pools.now[pool], pin
        issued += 1
        queue.issued[gpu, flat + e] = now + issued * to_copy
        enter(queue, gpu, flat + e, sizes[layer], pin)
    return int(issued)


@in_place(types.void(POOLS, ACTIVATING, types.int64, types.int64, types.boolean))
def _mark_needed(pools: Any, activating: Any, work: int, local: int, is_needed: bool) -> None:
    """Say of the active experts of a work, numbered as in its pool, that they are needed, or no
    more.
    """
    if pools.of_work[work] == NOT_POOLED:
        return
    first = pools.place[work] * local
    for i in range(activating.offsets[1]):
        activating.needed[first + activating.active_experts[i]] = is_needed


@in_place(
    types.int64(
        _FIRST, types.FunctionType(DRAW), _FLAT, POOLS, QUEUE, ACTIVATING, PREDICTED,
        DECIDED, _FLAT, types.int64, types.int64, types.int64, types.int64, types.int64,
        types.int64, types.int64,
    ))  # fmt: skip
def prefetch(
    first_of: Any, draw_of: Any, choices: Any, pools: Any, queue: Any, activating: Any,
    predicted: Any, decided: Any, sizes: Any, local: int, work: int, gpus: int, index: int,
    step: int, now: int, to_copy: int,
) -> int:  # fmt: skip
    """Prefetch for the layers ahead of a work just decided in pass ``index`` of the chunk, which is
    pass ``step``; returns how many copies the host issues in it.
    """
    active, source, gpu = predicted.active, work // gpus, work % gpus
    layers, own_pool, engine = active.shape[1], pools.of_work[work], queue.engine
    allowed = choices[BUDGET] - decided.told[PROMOTED_NOW] * sizes[source]
    if engine[gpu, FLIGHT_END] > now:
        allowed -= engine[gpu, FLIGHT_BYTES]
    _mark_needed(pools, activating, work, local, True)
    issued, end = decided.told[LOADS], layers
    if choices[ACROSS_PASSES] != 0 and index + 1 < len(active):
        end += source + 1 if active[index + 1, source] else layers
    for pinning in (True, False):
        place, passed = source + 1, 0
        while place < end and passed < choices[DEPTH]:
            ahead, layer = place // layers, place % layers
            place += 1
            if not active[index + ahead, layer]:
                continue
            passed += 1
            target = layer * gpus + gpu
            pool, until = pools.of_work[target], (step + ahead) * layers + layer + 1
            row = predicted.index[source if len(predicted.index) > 1 else 0, layer, gpu]
            low = predicted.base[row] + predicted.offsets[row, index + ahead]
            high = predicted.base[row] + predicted.offsets[row, index + ahead + 1]
            if pool == NOT_POOLED:
                continue
            if pinning:
                _pin(pools, predicted, local, target, low, high, until)
            elif low < high:
                issued = _prefetch_for(
                    first_of, draw_of, pools, queue, activating, predicted, sizes, local, target,
                    gpus, low, high, pool == own_pool, until, allowed, issued, now, to_copy,
                )  # fmt: skip
    _mark_needed(pools, activating, work, local, False)
    return int(issued)
