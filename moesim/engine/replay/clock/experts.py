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
    READS,
    STORAGE,
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
LAYER_BUFFERS = 2
"""One layer is copied while another computes."""
SPAN = record(Span, *[_INT] * len(Span._fields))


@inlined(_INT(_BOOL, _INT, _INT, _INT, _INT))
def copy_start(blocking: bool, to_copy: int, now: int, issued: int, copied: int) -> int:
    """When a copy starts of a layer known ``now``, behind one that ends at ``copied``; a blocked
    host goes on to it only then, else it has ``issued`` it.
    """
    if blocking:
        return max(now, copied) + to_copy
    return max(issued, copied)


@inlined(_INT(_BOOL, *[_INT] * 5))
def last_copy(
    blocking: bool, to_copy: int, each_ns: int, copies: int, now: int, copied: int
) -> int:
    """When the last of so many ``copies`` of a layer ends, of ``each_ns``, that wait for nothing
    but one another: as ``copy_start`` has them, behind one that ends at ``copied``.
    """
    if blocking:
        return int(max(now, copied) + copies * (to_copy + each_ns))
    # from some copy on none waits for the host: from the first one, or the last one, on
    slower, faster = max(to_copy, each_ns), min(to_copy, each_ns)
    return int(max(copied + copies * each_ns, now + copies * slower + faster))


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


@inlined(_INT(FIXED, GPUS, *[_INT] * 3))
def turn_to(fixed: Any, gpus: Any, g: int, since: int, busy_ns: int) -> int:
    """When the drive begins reads that take so long, asked for ``since`` then; it is free
    behind.
    """
    node = fixed.node[g]
    begin = max(gpus.drive[node], since)
    gpus.drive[node] = begin + busy_ns
    return int(begin)


@inlined(_INT(FIXED, READS, _INT, _INT, _INT, _INT))
def busy_of(fixed: Any, reads: Any, moe: int, k: int, p: int, number: int) -> int:
    """How long so many reads of work ``k`` keep the drive."""
    if number > 0 and len(reads.ends) > 0:
        return int(reads.ends[reads.base[k] + reads.steps[k, p + 1] - 1])
    return int(number * fixed.read_busy[moe])


@inlined(_INT(FIXED, WORKS, GPUS, _INT, _INT, _INT, _INT))
def reads_begin(fixed: Any, works: Any, gpus: Any, moe: int, g: int, k: int, p: int) -> int:
    """When the drive turns to the reads of work ``k``, behind those of lower GPUs, and not before
    these knew their counts; then it is free behind them. A layer that came ahead has asked; one
    that is read whole waits for a room alone.
    """
    number = works.reads.steps[k, p + 1] - works.reads.steps[k, p]
    since = gpus.known[g]
    if len(works.streamed) > 0 and works.streamed[k, p] and gpus.coming[g, moe] >= 0:
        return int(since)
    if fixed.rooms > 0:
        gpus.housed[g] = number
        since = gpus.vacant[g, gpus.entered[g] % fixed.rooms] if number > 0 else 0
    return turn_to(fixed, gpus, g, since, busy_of(fixed, works.reads, moe, k, p, number))


@inlined(_INT(FIXED, _INT, _INT, _INT))
def alike_read_end(fixed: Any, moe: int, begin: int, read: int) -> int:
    """When ``read`` of those that ``begin`` then, all alike, is in host memory."""
    return int(begin + (read + 1) * fixed.read_busy[moe] + fixed.read_after[moe])


@inlined(_INT(FIXED, READS, _INT, _INT, _INT, _INT))
def read_end(fixed: Any, reads: Any, moe: int, begin: int, first: int, read: int) -> int:
    """When ``read`` of those that ``begin`` then is in host memory, -1 without one; ``first``: the
    first of these, where reads differ.
    """
    if read < 0:
        return -1
    if len(reads.ends) > 0:
        return int(begin + reads.ends[first + read] + reads.after[first + read])
    return alike_read_end(fixed, moe, begin, read)


@inlined(_INT(FIXED, READS, *[_INT] * 5))
def after_read(
    fixed: Any, reads: Any, moe: int, begun: int, first: int, copy: int, start: int
) -> int:
    """``start`` of a copy, but not before it may follow its read, of those that have ``begun`` then
    (-1: nothing is read); ``first`` as in ``read_end``.
    """
    if begun < 0 or reads.copy[copy] < 0:
        return start
    lead = reads.lead[copy] if len(reads.lead) > 0 else fixed.read_lead[moe]
    return int(max(start, read_end(fixed, reads, moe, begun, first, reads.copy[copy]) - lead))


@inlined(_PAIR(FIXED, WORKS, TABLE, *[_INT] * 5, SPAN, _INT, _INT, _BOOL))
def wait_for_reads(
    fixed: Any, works: Any, charged: Any, g: int, moe: int, begun: int, launch: int, copy: int,
    span: Any, time: int, cursor: int, decides: bool,
) -> tuple[int, int]:  # fmt: skip
    """Host memory has what ``launch`` reads and its copies, from ``copy`` on, bring; returns the
    new time and cursor.
    """
    last = works.reads.launch[launch]
    while not decides and copy < span.last and works.copy_launch[copy] == launch - span.low:
        last = max(last, works.reads.copy[copy])
        copy += 1
    there = last if decides else read_end(fixed, works.reads, moe, begun, span.read, last)
    return max(time, there), charge(charged, g, STORAGE, cursor, there)


@inlined(_TUPLE(_INT, 3)(FIXED, WORKS, GPUS, *[_INT] * 6, SPAN, _BOOL))
def play_copies(
    fixed: Any, works: Any, gpus: Any, moe: int, g: int, begun: int, launch: int, copy: int,
    copied: int, span: Any, decides: bool,
) -> tuple[int, int, int]:  # fmt: skip
    """The copies of ``launch`` from ``copy`` on, behind one that ends at ``copied``, of what is
    read from ``begun`` on; returns the next copy, the end of the last one of all, and when these
    and what was in flight have arrived (-1 without one).
    """
    now, last, first = gpus.known[g], works.there[launch] if decides else -1, copy
    issued = now + (copy - span.first) * fixed.copy
    while copy < span.last and works.copy_launch[copy] == launch - span.low:
        issued = works.copy_issued[copy] if decides else issued + fixed.copy
        start = copy_start(fixed.blocking, fixed.copy, now, issued, copied)
        start = after_victim(start, works.copy_wait[copy], gpus.launch_end)
        start = after_read(fixed, works.reads, moe, begun, span.read, copy, start)
        if decides and len(works.reads.copy) > 0:
            start = max(start, works.reads.copy[copy])
        of_copy = len(works.copy_ns) > 0
        copied = start + (works.copy_ns[copy] if of_copy else fixed.copy_ns[moe])
        copy += 1
    return copy, copied, max(last, copied) if copy > first else last


@inlined(_INT(FIXED, WORKS, GPUS, TABLE, *[_INT] * 6))
def host_has(
    fixed: Any, works: Any, gpus: Any, charged: Any, moe: int, g: int, k: int, p: int, begun: int,
    cursor: int,
) -> int:  # fmt: skip
    """The host begins when it has all experts that it computes; ``begun`` is -1 where the clock
    decides, and knows it. Returns the new cursor.
    """
    there = works.reads.host[0, 0]
    if begun >= 0:
        there = read_end(fixed, works.reads, moe, begun, 0, works.reads.host[k, p])
    gpus.ready[g] = max(gpus.ready[g], there)
    return charge(charged, g, STORAGE, cursor, there)


@inlined(_TUPLE(_INT, 3)(FIXED, WORKS, GPUS, TABLE, *[_INT] * 5, SPAN, _INT, _INT))
def wait_for_whole(
    fixed: Any, works: Any, gpus: Any, charged: Any, g: int, moe: int, k: int, p: int, begun: int,
    span: Any, time: int, cursor: int,
) -> tuple[int, int, int]:  # fmt: skip
    """A layer that is copied whole is there before its launches; returns the new time and cursor,
    and the end of the last copy.
    """
    copied, arrived, now = gpus.copied[g], gpus.coming[g, moe], gpus.known[g]
    stores = len(works.reads.steps) > 0
    if arrived < 0 and stores:
        reads = works.reads.steps[k, p + 1] - works.reads.steps[k, p]
        gpus.stored[g, moe] = read_end(fixed, works.reads, moe, begun, span.read, reads - 1)
    for one in range(1, span.issues + 1 if arrived < 0 else 1):
        issued = now + one * fixed.copy
        start = copy_start(fixed.blocking, fixed.copy, now, issued, copied)
        if stores:
            copy = span.first + one - 1
            start = after_read(fixed, works.reads, moe, begun, span.read, copy, start)
        copied = arrived = start + fixed.copy_ns[moe]
    gpus.coming[g, moe] = -1
    if stores:
        time = max(time, gpus.stored[g, moe])
        cursor = charge(charged, g, STORAGE, cursor, gpus.stored[g, moe])
    time = max(time, arrived)
    return time, charge(charged, g, WEIGHTS, cursor, time), copied


@inlined(_PAIR(GPUS, TABLE, _INT, _INT, _INT, _INT))
def wait_for_coming(
    gpus: Any, charged: Any, g: int, moe: int, time: int, cursor: int
) -> tuple[int, int]:
    """What came in the background of earlier passes is there before the layer's launches; returns
    the new time and cursor.
    """
    time, gpus.coming[g, moe] = max(time, gpus.coming[g, moe]), -1
    return time, charge(charged, g, WEIGHTS, cursor, time)


@inlined(_INT(FIXED, GPUS, READS, _INT, _INT, _INT, SPAN, _INT, _INT))
def copy_behind(
    fixed: Any, gpus: Any, reads: Any, begun: int, g: int, moe: int, span: Any, first: int,
    copied: int,
) -> int:  # fmt: skip
    """Copies from ``first`` on, which no launch needs, behind one that ends at ``copied``, of what
    is read from ``begun`` on; returns the end of the last one.
    """
    for copy in range(first, span.last):
        start = max(gpus.known[g] + (copy - span.first + 1) * fixed.copy, copied)
        start = after_read(fixed, reads, moe, begun, span.read, copy, start)
        gpus.coming[g, moe] = copied = start + fixed.copy_ns[moe]
    return copied


@inlined(_INT(FIXED, *[_INT] * 7))
def host_behind(
    fixed: Any, m: int, k: int, host: int, known: int, copied: int, issues: int, launches: int
) -> int:
    """When the ``host`` has done its part for the experts of work ``k`` of layer ``m``: from when
    its counts are ``known`` it ``issues`` copies, the last of which ends at ``copied``, and
    launches kernels and combine.
    """
    if issues > 0 and fixed.blocking:
        host = max(host, known, copied)
    elif issues > 0:
        host = max(host, known) + issues * fixed.copy
    launched = launches if fixed.always[k] < 0 else fixed.always[k]
    kernels = launched * fixed.hosts[m, LAUNCH_EXPERTS]
    return int(host + kernels + fixed.hosts[m, LAUNCH_COMBINE])


@inlined(_PAIR(_INT, _INT, _INT))
def rows_up(copied: int, computed: int, up_ns: int) -> tuple[int, int]:
    """When rows that the host has ``computed`` then are up, and when the copy engine is free that
    was so at ``copied``: they are one more copy of it, unless they take nothing of it.
    """
    if up_ns == 0:
        return computed, copied
    there = max(computed, copied) + up_ns
    return there, there


@inlined(types.void(FIXED, GPUS, TABLE, _INT, _INT, _INT, SPAN, _INT, _INT))
def end_experts(
    fixed: Any, gpus: Any, charged: Any, m: int, g: int, k: int, span: Any, time: int, cursor: int
) -> None:
    """What the host does for work ``k`` of layer ``m`` whose launches have ended at ``time``; it
    computes from the end of dispatch, ``ready``, on. That becomes the end of the experts.
    """
    gpus.host[g] = host_behind(
        fixed, m, k, gpus.host[g], gpus.known[g], gpus.copied[g], span.issues, span.high - span.low
    )
    if span.hosted_ns > 0:
        computed = gpus.ready[g] + span.hosted_ns
        there, gpus.copied[g] = rows_up(gpus.copied[g], computed, span.up_ns)
        time = max(time, there)
        cursor = charge(charged, g, CPU, cursor, time)
    gpus.ready[g], gpus.cursor[g] = time, cursor
    if fixed.rooms > 0 and gpus.housed[g] > 0:
        coming = gpus.coming[g, k // len(gpus.time)]
        gpus.vacant[g, gpus.entered[g] % fixed.rooms] = max(time, coming)
        gpus.entered[g] += 1


@inlined(_INT(FIXED, WORKS, GPUS, *[_INT] * 5))
def _stream_read(
    fixed: Any, works: Any, gpus: Any, g: int, moe: int, p: int, start: int, copies: int
) -> int:
    """Ask for what a layer that is copied whole reads from storage. Returns when its ``copies``
    would start, from ``start`` on, if they followed one another without a wait.
    """
    k, each = moe * len(gpus.time) + g, fixed.copy_ns[moe]
    number = works.reads.steps[k, p + 1] - works.reads.steps[k, p]
    begun = turn_to(fixed, gpus, g, gpus.time[g], number * fixed.read_busy[moe])
    gpus.stored[g, moe] = read_end(fixed, works.reads, moe, begun, 0, number - 1)
    first = works.copy_base[k] + works.step_copies[k, p]
    for copy in range(copies):
        there = after_read(fixed, works.reads, moe, begun, 0, first + copy, start + copy * each)
        start = there - copy * each
    return start


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
        if len(works.reads.steps) > 0:
            start = _stream_read(fixed, works, gpus, g, moe, p, start, copies)
        gpus.coming[g, moe] = gpus.copied[g] = start + copies * fixed.copy_ns[moe]
        return


@inlined(types.void(FIXED, PASSES, WORKS, GPUS, _INT))
def stream_first(fixed: Any, passes: Any, works: Any, gpus: Any, p: int) -> None:
    """Queue the copies of the first layers of a pass that are copied whole."""
    for g in range(len(gpus.time)):
        gpus.to_stream[g] = 0
        for _ in range(LAYER_BUFFERS):
            stream_next(fixed, passes, works, gpus, p, g)
