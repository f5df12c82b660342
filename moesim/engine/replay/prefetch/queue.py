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

_INT = types.int64


@part(types.void(QUEUE, _INT, _INT))
def leave(queue: Any, gpu: int, expert: int) -> None:
    """``expert`` leaves the queue."""
    following, before, shelf = queue.following, queue.before, queue.shelf[gpu, expert]
    earlier, later = before[gpu, expert], following[gpu, expert]
    following[gpu, earlier], before[gpu, later] = later, earlier
    queue.waits[gpu, shelf] -= 1
    queue.engine[gpu, QUEUED] -= queue.bytes[shelf]


@part(types.void(QUEUE, _INT, _INT))
def drop(queue: Any, gpu: int, expert: int) -> None:
    """``expert`` has lost its slot; its copy, if it waits, is cancelled."""
    if queue.arrival[gpu, expert] == WAITING:
        leave(queue, gpu, expert)
    queue.arrival[gpu, expert] = queue.meant[gpu, expert] = 0


@part(types.void(QUEUE, *[_INT] * 4))
def enter(queue: Any, gpu: int, expert: int, place: int, account: int) -> None:
    """``expert`` is queued for ``place``, a layer of a pass, and counted on its ``account``."""
    following, before, end = queue.following, queue.before, queue.following.shape[1] - 1
    last, shelf = before[gpu, end], queue.shelf[gpu, expert]
    following[gpu, last] = before[gpu, end] = expert
    before[gpu, expert], following[gpu, expert] = last, end
    queue.arrival[gpu, expert], queue.meant[gpu, expert] = WAITING, place
    queue.account[gpu, expert] = account
    queue.ended[gpu, account, MEANT] += 1
    queue.waits[gpu, shelf] += 1
    queue.engine[gpu, QUEUED] += queue.bytes[shelf]


@part(types.void(QUEUE, _INT, _INT, _INT))
def begin(queue: Any, gpu: int, expert: int, arrival: int) -> None:
    """The copy of ``expert`` has begun, and ends at its ``arrival``."""
    leave(queue, gpu, expert)
    queue.ended[gpu, queue.account[gpu, expert], BEGUN] += 1
    queue.arrival[gpu, expert] = arrival


@part(types.void(QUEUE, _INT, _INT))
def advance(queue: Any, gpu: int, now: int) -> None:
    """Begin what could begin before ``now``."""
    engine, end = queue.engine[gpu], queue.following.shape[1] - 1
    expert = queue.following[gpu, end]
    while expert != end:
        start = max(engine[FREE], queue.issued[gpu, expert])
        if start >= now:
            break
        shelf = queue.shelf[gpu, expert]
        engine[FREE] = engine[FLIGHT_END] = start + queue.copy_ns[shelf]
        engine[FLIGHT_BYTES] = queue.bytes[shelf]
        begin(queue, gpu, expert, engine[FREE])
        expert = queue.following[gpu, end]
    engine[FREE] = max(engine[FREE], now)
