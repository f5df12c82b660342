"""What is predicted before passes, and copied before they begin; compiled."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.experts import copy_start
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, STORAGE, TABLE, WEIGHTS
from moesim.engine.replay.clock.steps import charge, inlined
from moesim.engine.replay.prefetch.arrays import (
    BEGUN,
    BUDGET,
    COST,
    COST_PLACE,
    EVERY,
    LOADS,
    NOT_POOLED,
    POOL_LAYERS,
    WAITING,
    At,
)
from moesim.engine.replay.prefetch.issue import AHEAD, Ahead, pin, prefetch_for
from moesim.engine.replay.prefetch.queue import leave
from moesim.engine.replay.prefetch.storage import advance_reads, read_ahead
from moesim.engine.replay.prefetch.types import AT, UNDECIDED
from moesim.memory.decisions import DECIDE_IN, FIRST
from moesim.memory.policy import THIS_LAYER, THIS_PASS
from moesim.runtime.compiled import types

_FIRST, _DECIDE = types.FunctionType(FIRST), types.FunctionType(DECIDE_IN)


@inlined(AHEAD(UNDECIDED, AT, types.int64, types.int64))
def _target(undecided: Any, at: Any, index: int, layer: int) -> Any:
    """What is predicted for ``layer`` in pass ``index`` of the chunk and what follows it."""
    predicted, gpu = undecided.predicted, at.work
    row = predicted.index[0, layer, gpu]
    low = predicted.base[row] + predicted.offsets[row, index]
    high = predicted.base[row] + predicted.offsets[row, index + 1]
    work, layers = layer * at.gpus + gpu, predicted.active.shape[1]
    if not predicted.active[index, layer] or undecided.pools.of_work[work] == NOT_POOLED:
        high = low
    until = (at.step + index - at.index) * layers + layer + 1
    return Ahead(work, low, high, until)


@inlined(types.void(UNDECIDED, AT))
def _stand_before(undecided: Any, at: Any) -> None:
    """For policies the last layer of the pass before is at hand."""
    pools = undecided.pools
    for work in range(at.work, len(pools.of_work), at.gpus):
        if pools.of_work[work] != NOT_POOLED:
            state = pools.state[pools.of_work[work]]
            state[THIS_PASS, 0] = at.step - 1
            state[THIS_LAYER, 0] = undecided.choices[POOL_LAYERS] - 1


@inlined(types.int64(UNDECIDED, _FIRST, AT))
def _queue_all(undecided: Any, first_of: Any, at: Any) -> int:
    """Pin what is predicted for the coming passes, and queue what of it is in no slot; returns how
    many copies.
    """
    active, queue, gpu = undecided.predicted.active, undecided.queue, at.work
    end, issued = min(at.index + undecided.choices[EVERY], len(active)), 0
    for expert in range(queue.meant.shape[1]):
        queue.meant[gpu, expert] = 0
    undecided.activating.offsets[1] = 0
    for turn in range(3):
        for index in range(at.index, end):
            for layer in range(active.shape[1]):
                ahead = _target(undecided, at, index, layer)
                if ahead.low == ahead.high:
                    continue
                if turn == 1:
                    allowed = undecided.choices[BUDGET]
                    issued = prefetch_for(undecided, first_of, at, ahead, allowed, issued)
                else:
                    pin(undecided, ahead, at.local)
    return int(issued)


@inlined(types.int64(FIXED, UNDECIDED, AT, types.int64))
def _copy_all(fixed: Any, undecided: Any, at: Any, copied: int) -> int:
    """Copy what is queued, behind a copy that ends at ``copied``; returns the end."""
    queue, gpu, sizes = undecided.queue, at.work, undecided.beside.bytes
    nobody, layers = queue.following.shape[1] - 1, queue.ended.shape[1]
    expert = queue.following[gpu, nobody]
    while expert != nobody:
        shelf, turn = expert // at.local, (queue.meant[gpu, expert] - 1) // layers
        issued = queue.issued[gpu, expert]
        start = copy_start(fixed.blocking != 0, fixed.copy, at.now, issued, copied)
        if len(undecided.stored.there) > 0:
            start = max(start, undecided.stored.there[gpu, expert] - fixed.read_lead[shelf])
        copied = start + undecided.variants.ahead_ns[shelf]
        leave(queue, gpu, expert, sizes[shelf])
        ended = queue.ended[gpu, shelf % layers, turn % queue.ended.shape[2], shelf // layers]
        ended[BEGUN] += 1
        queue.arrival[gpu, expert] = copied
        expert = queue.following[gpu, nobody]
    return int(copied)


@inlined(types.void(FIXED, GPUS, TABLE, UNDECIDED, AT, types.int64))
def _read_all(fixed: Any, gpus: Any, charged: Any, undecided: Any, at: Any, issued: int) -> None:
    """Read what is queued and not in memory: the GPU waits for it."""
    g, stored, until = at.work, undecided.stored, 0
    read_ahead(fixed, undecided, at, issued)
    advance_reads(fixed, undecided, at, gpus, g, WAITING - 1)
    for i in range(issued):
        until = max(until, stored.there[g, stored.fresh[i]])
    gpus.cursor[g] = charge(charged, g, STORAGE, gpus.cursor[g], until)


@inlined(types.void(FIXED, GPUS, FILLED, UNDECIDED, _DECIDE, _FIRST, types.int64))
def load_before(
    fixed: Any, gpus: Any, filled: Any, undecided: Any, _decide: Any, first_of: Any, p: int
) -> None:
    """What is predicted before pass ``p`` of the chunk, if it is one of those: the GPUs wait."""
    choices, charged, step = undecided.choices, filled.charges[p], undecided.first + p
    if choices[EVERY] == 0 or step % choices[EVERY] != 0:
        return
    for g in range(len(gpus.time)):
        now = gpus.time[g] + choices[COST]
        if choices[COST] > 0:
            gpus.cursor[g] = charge(charged, g, choices[COST_PLACE], gpus.cursor[g], now)
        at = At(g, len(gpus.time), undecided.local[g], p, step, now, fixed.copy)
        undecided.decided.told[LOADS] = 0
        _stand_before(undecided, at)
        issued = _queue_all(undecided, first_of, at)
        gpus.time[g] = now
        if issued > 0:
            if len(undecided.stored.there) > 0:
                _read_all(fixed, gpus, charged, undecided, at, issued)
            gpus.copied[g] = _copy_all(fixed, undecided, at, gpus.copied[g])
            gpus.time[g] = max(now, gpus.copied[g])
            gpus.cursor[g] = charge(charged, g, WEIGHTS, gpus.cursor[g], gpus.time[g])
            if fixed.blocking != 0:
                gpus.host[g] = max(gpus.host[g], gpus.copied[g])
            else:
                gpus.host[g] = max(gpus.host[g], now) + issued * fixed.copy
