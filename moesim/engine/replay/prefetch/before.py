"""What is predicted before passes, and copied before they begin; compiled."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.experts import copy_start
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, STORAGE, TABLE, WEIGHTS
from moesim.engine.replay.clock.steps import charge, inlined
from moesim.engine.replay.prefetch.arrays import (
    BUDGET,
    COST,
    COST_PLACE,
    EVERY,
    LOADS,
    NOBODY,
    NOT_POOLED,
    WAITING,
    At,
)
from moesim.engine.replay.prefetch.issue import ahead_of, pin, prefetch_lacking
from moesim.engine.replay.prefetch.queue import begin
from moesim.engine.replay.prefetch.storage import advance_reads, read_ahead
from moesim.engine.replay.prefetch.types import AT, DECIDE, UNDECIDED
from moesim.memory.policy import THIS_LAYER, THIS_PASS
from moesim.memory.slots.decisions import FIRST
from moesim.runtime.compiled import types

_INT, _FIRST = types.int64, types.FunctionType(FIRST)


@inlined(types.void(UNDECIDED, _INT, _INT, _INT))
def _stand_before(undecided: Any, gpu: int, gpus: int, step: int) -> None:
    """For policies the last layer of the pass before is at hand."""
    pools, deciding = undecided.pools, undecided.deciding
    for work in range(gpu, len(pools.of_work), gpus):
        if pools.of_work[work] != NOT_POOLED:
            state = deciding.slots.state[pools.of_work[work]]
            state[THIS_PASS, 0] = step - 1
            state[THIS_LAYER, 0] = deciding.layers - 1


@inlined(_INT(UNDECIDED, _FIRST, AT))
def _queue_all(undecided: Any, first_of: Any, at: Any) -> int:
    """Pin what is predicted for the coming passes, and queue what of it is in no slot; returns how
    many copies.
    """
    active, queue, issued = undecided.predicted.active, undecided.queue, 0
    end, allowed = min(at.index + undecided.choices[EVERY], len(active)), undecided.choices[BUDGET]
    for expert in range(queue.meant.shape[1]):
        queue.meant[at.gpu, expert] = 0
    for turn in range(3):
        for index in range(at.index, end):
            for layer in range(active.shape[1]):
                if not active[index, layer]:
                    continue
                number = pin(undecided, ahead_of(undecided, at, 0, layer, index), at.local, 0)
                if turn == 1:
                    issued = prefetch_lacking(undecided, first_of, at, number, allowed, issued)
    return int(issued)


@inlined(_INT(FIXED, UNDECIDED, AT, _INT))
def _copy_all(fixed: Any, undecided: Any, at: Any, copied: int) -> int:
    """Copy what is queued, behind a copy that ends at ``copied``; returns the end."""
    queue, gpu = undecided.queue, at.gpu
    nobody = queue.following.shape[1] - 1
    expert = queue.following[gpu, nobody]
    while expert != nobody:
        shelf, issued = queue.shelf[gpu, expert], queue.issued[gpu, expert]
        start = copy_start(fixed.blocking != 0, fixed.copy, at.now, issued, copied)
        if len(undecided.stored.there) > 0:
            start = max(start, undecided.stored.there[gpu, expert] - fixed.read_lead[shelf])
        copied = start + undecided.queue.copy_ns[shelf]
        begin(queue, gpu, expert, copied)
        expert = queue.following[gpu, nobody]
    return int(copied)


@inlined(types.void(FIXED, GPUS, TABLE, UNDECIDED, AT, types.int64))
def _read_all(fixed: Any, gpus: Any, charged: Any, undecided: Any, at: Any, issued: int) -> None:
    """Read what is queued and not in memory: the GPU waits for it."""
    g, stored, until = at.gpu, undecided.stored, 0
    read_ahead(fixed, undecided, at, issued)
    advance_reads(fixed, undecided, gpus, g, WAITING - 1)
    for i in range(issued):
        until = max(until, stored.there[g, stored.fresh[i]])
    gpus.cursor[g] = charge(charged, g, STORAGE, gpus.cursor[g], until)


@inlined(types.void(FIXED, GPUS, FILLED, UNDECIDED, DECIDE, _FIRST, types.int64))
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
        until = step * undecided.predicted.active.shape[1] + 1
        at = At(g, 0, g, undecided.local[g], 0, NOBODY, p, step, 0, until, now, fixed.copy)
        undecided.decided.told[LOADS] = 0
        _stand_before(undecided, g, len(gpus.time), step)
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
