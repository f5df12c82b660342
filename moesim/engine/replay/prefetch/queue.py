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
from moesim.engine.replay.prefetch.types import QUEUE, part
from moesim.runtime.compiled import types

_INT, _FLAT = types.int64, types.int64[::1]


@part(types.void(QUEUE, _FLAT, _INT, _INT))
def leave(queue: Any, sizes: Any, gpu: int, expert: int) -> None:
    """``expert`` leaves the queue; ``sizes`` (bytes) int64[shelves]."""
    following, before, shelf = queue.following, queue.before, queue.shelf[expert]
    earlier, later = before[gpu, expert], following[gpu, expert]
    following[gpu, earlier], before[gpu, later] = later, earlier
    queue.waits[gpu, shelf] -= 1
    queue.engine[gpu, QUEUED] -= sizes[shelf]


@part(types.void(QUEUE, _FLAT, _INT, _INT))
def drop(queue: Any, sizes: Any, gpu: int, expert: int) -> None:
    """``expert`` has lost its slot; its copy, if it waits, is cancelled."""
    if queue.arrival[gpu, expert] == WAITING:
        leave(queue, sizes, gpu, expert)
    queue.arrival[gpu, expert] = queue.meant[gpu, expert] = 0


@part(types.void(QUEUE, _FLAT, *[_INT] * 4))
def enter(queue: Any, sizes: Any, gpu: int, expert: int, place: int, account: int) -> None:
    """``expert`` is queued for ``place``, a layer of a pass, and counted on its ``account``."""
    following, before, end = queue.following, queue.before, queue.following.shape[1] - 1
    last, shelf = before[gpu, end], queue.shelf[expert]
    following[gpu, last] = before[gpu, end] = expert
    before[gpu, expert], following[gpu, expert] = last, end
    queue.arrival[gpu, expert], queue.meant[gpu, expert] = WAITING, place
    queue.account[gpu, expert] = account
    queue.ended[gpu, account, MEANT] += 1
    queue.waits[gpu, shelf] += 1
    queue.engine[gpu, QUEUED] += sizes[shelf]


@part(types.void(QUEUE, _FLAT, _INT, _INT, _INT))
def begin(queue: Any, sizes: Any, gpu: int, expert: int, arrival: int) -> None:
    """The copy of ``expert`` has begun, and ends at its ``arrival``."""
    leave(queue, sizes, gpu, expert)
    queue.ended[gpu, queue.account[gpu, expert], BEGUN] += 1
    queue.arrival[gpu, expert] = arrival


@part(types.void(QUEUE, _FLAT, _FLAT, _INT, _INT))
def advance(queue: Any, copy_ns: Any, sizes: Any, gpu: int, now: int) -> None:
    """Begin what could begin before ``now``; ``copy_ns`` and ``sizes`` (bytes) int64[shelves]."""
    engine, end = queue.engine[gpu], queue.following.shape[1] - 1
    expert = queue.following[gpu, end]
    while expert != end:
        start = max(engine[FREE], queue.issued[gpu, expert])
        if start >= now:
            break
        shelf = queue.shelf[expert]
        engine[FREE] = engine[FLIGHT_END] = start + copy_ns[shelf]
        engine[FLIGHT_BYTES] = sizes[shelf]
        begin(queue, sizes, gpu, expert, engine[FREE])
        expert = queue.following[gpu, end]
    engine[FREE] = max(engine[FREE], now)
