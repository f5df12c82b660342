"""The steps of docs/semantics.md's clock for the experts of one layer on one GPU, compiled: its
copies and launches, and what the host has to do with them.
"""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.records import (
    CPU,
    EXPERTS,
    FIXED,
    FLAT,
    GPUS,
    LAUNCH_COMBINE,
    LAUNCH_EXPERTS,
    MOE,
    PASSES,
    TABLE,
    WEIGHTS,
    WORKS,
    Span,
)
from moesim.engine.replay.clock.steps import charge, inlined
from moesim.runtime.compiled import record, types

_INT, _BOOL = types.int64, types.boolean
_TUPLE: Any = types.UniTuple
_PAIR = _TUPLE(_INT, 2)
SPAN = record(Span, *[_INT] * len(Span._fields))


@inlined(_INT(_BOOL, _INT, _INT, _INT, _INT))
def copy_start(blocking: bool, to_copy: int, now: int, issued: int, copied: int) -> int:
    """When a copy starts of a layer known ``now``, behind one that ends at ``copied``; a blocked
    host goes on to it only then, else it has ``issued`` it.
    """
    if blocking:
        return max(now, copied) + to_copy
    return max(issued, copied)


@inlined(_INT(_INT, _INT, FLAT))
def after_victim(start: int, wait: int, launch_end: Any) -> int:
    """``start``, but not before the end of the launch that a copy must ``wait`` for (-1: none)."""
    return int(max(start, launch_end[wait])) if wait >= 0 else start


@inlined(_PAIR(TABLE, _INT, _INT, _INT, _INT, _INT, _INT))
def play_launch(
    charged: Any, g: int, time: int, cursor: int, arrived: int, kernel_ns: int, read_ns: int
) -> tuple[int, int]:
    """A launch from ``time`` on: the wait for copies that have ``arrived`` then (-1: for none), the
    kernel, and what it reads over the link; returns the new time and cursor.
    """
    if arrived >= 0:
        time = max(time, arrived)
        cursor = charge(charged, g, WEIGHTS, cursor, time)
    time += kernel_ns
    cursor = charge(charged, g, EXPERTS, cursor, time)
    if read_ns > 0:
        time += read_ns
        cursor = charge(charged, g, WEIGHTS, cursor, time)
    return time, cursor


@inlined(_PAIR(GPUS, TABLE, _INT, _INT, _INT, _INT))
def wait_for_coming(
    gpus: Any, charged: Any, g: int, moe: int, time: int, cursor: int
) -> tuple[int, int]:
    """What came in the background of earlier passes is there before the layer's launches; returns
    the new time and cursor.
    """
    time, gpus.coming[g, moe] = max(time, gpus.coming[g, moe]), -1
    return time, charge(charged, g, WEIGHTS, cursor, time)


@inlined(_INT(FIXED, GPUS, _INT, _INT, SPAN, _INT, _INT))
def copy_behind(fixed: Any, gpus: Any, g: int, moe: int, span: Any, first: int, copied: int) -> int:
    """Copies from ``first`` on, which no launch needs, behind one that ends at ``copied``; returns
    the end of the last one.
    """
    for copy in range(first, span.last):
        issued = gpus.known[g] + (copy - span.first + 1) * fixed.copy
        gpus.coming[g, moe] = copied = max(issued, copied) + fixed.copy_ns[moe]
    return copied


@inlined(types.void(FIXED, GPUS, TABLE, _INT, _INT, _INT, SPAN, _INT, _INT))
def end_experts(
    fixed: Any, gpus: Any, charged: Any, m: int, g: int, always: int, span: Any, time: int,
    cursor: int,
) -> None:  # fmt: skip
    """What the host does for layer ``m`` whose launches have ended at ``time``: from when its
    counts are known it issues copies, launches kernels, and computes from the end of dispatch,
    ``ready``, on. That becomes the end of the experts.
    """
    host, launched = gpus.host[g], span.high - span.low if always < 0 else always
    if span.issues > 0 and fixed.blocking:
        host = max(host, gpus.known[g], gpus.copied[g])
    elif span.issues > 0:
        host = max(host, gpus.known[g]) + span.issues * fixed.copy
    kernels = launched * fixed.hosts[m, LAUNCH_EXPERTS]
    gpus.host[g] = host + kernels + fixed.hosts[m, LAUNCH_COMBINE]
    if span.hosted_ns > 0:
        time = max(time, gpus.ready[g] + span.hosted_ns)
        cursor = charge(charged, g, CPU, cursor, time)
    gpus.ready[g], gpus.cursor[g] = time, cursor


@inlined(types.void(FIXED, PASSES, WORKS, GPUS, _INT, _INT))
def stream_next(fixed: Any, passes: Any, works: Any, gpus: Any, p: int, g: int) -> None:
    """Queue the copies of the pass's next layer that is copied whole; ``coming`` has their end."""
    number = len(gpus.time)
    while gpus.to_stream[g] < len(passes.plan):
        m = gpus.to_stream[g]
        gpus.to_stream[g] += 1
        moe = passes.plan[m, MOE]
        if moe < 0 or not passes.runs[p, m] or not works.streamed[moe * number + g, p]:
            continue
        of_work = works.step_copies[moe * number + g]
        copies = of_work[p + 1] - of_work[p]
        start = max(gpus.time[g], gpus.copied[g])
        gpus.coming[g, moe] = gpus.copied[g] = start + copies * fixed.copy_ns[moe]
        return
