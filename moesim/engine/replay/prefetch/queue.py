"""The copy engine's queue of prefetches, compiled: looked at where a layer is decided."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.prefetch.arrays import (
    BEGUN,
    FLIGHT_BYTES,
    FLIGHT_END,
    FREE,
    MEANT,
    QUEUED,
    WAITING,
)
from moesim.engine.replay.prefetch.types import QUEUE, in_place
from moesim.runtime.compiled import types

_FLAT = types.int64[::1]


@in_place(types.void(QUEUE, types.int64, types.int64, types.int64))
def leave(queue: Any, gpu: int, expert: int, size: int) -> None:
    """``expert`` of ``size`` bytes leaves the queue."""
    following, before = queue.following, queue.before
    earlier, later = before[gpu, expert], following[gpu, expert]
    following[gpu, earlier], before[gpu, later] = later, earlier
    queue.engine[gpu, QUEUED] -= size


@in_place(types.void(QUEUE, types.int64, types.int64, types.int64))
def drop(queue: Any, gpu: int, expert: int, size: int) -> None:
    """``expert`` has lost its slot; its copy, if it waits, is cancelled."""
    if queue.arrival[gpu, expert] == WAITING:
        leave(queue, gpu, expert, size)
    queue.arrival[gpu, expert] = queue.meant[gpu, expert] = 0


@in_place(types.void(QUEUE, types.int64, types.int64, types.int64, types.int64, types.int64))
def enter(queue: Any, gpu: int, expert: int, size: int, place: int, variant: int) -> None:
    """``expert`` is queued for ``place``, a layer of a pass."""
    following, before, end = queue.following, queue.before, queue.following.shape[1] - 1
    last, layers = before[gpu, end], queue.ended.shape[1]
    following[gpu, last] = before[gpu, end] = expert
    before[gpu, expert], following[gpu, expert] = last, end
    queue.arrival[gpu, expert], queue.meant[gpu, expert] = WAITING, place
    turn = (place - 1) // layers % queue.ended.shape[2]
    queue.ended[gpu, (place - 1) % layers, turn, variant, MEANT] += 1
    queue.engine[gpu, QUEUED] += size


@in_place(types.void(QUEUE, _FLAT, _FLAT, types.int64, types.int64, types.int64))
def advance(queue: Any, copy_ns: Any, sizes: Any, local: int, gpu: int, now: int) -> None:
    """Begin what could begin before ``now``; ``copy_ns`` and ``sizes`` (bytes) int64[shelves]."""
    engine, end = queue.engine, queue.following.shape[1] - 1
    expert, layers = queue.following[gpu, end], queue.ended.shape[1]
    while expert != end:
        start = max(engine[gpu, FREE], queue.issued[gpu, expert])
        if start >= now:
            break
        shelf, turn = expert // local, (queue.meant[gpu, expert] - 1) // layers
        leave(queue, gpu, expert, sizes[shelf])
        ended = queue.ended[gpu, shelf % layers, turn % queue.ended.shape[2], shelf // layers]
        ended[BEGUN] += 1
        queue.arrival[gpu, expert] = engine[gpu, FREE] = start + copy_ns[shelf]
        engine[gpu, FLIGHT_END], engine[gpu, FLIGHT_BYTES] = engine[gpu, FREE], sizes[shelf]
        expert = queue.following[gpu, end]
    engine[gpu, FREE] = max(engine[gpu, FREE], now)
