"""The steps of docs/semantics.md's clock that do not depend on a layer's experts, compiled; each
for all GPUs of layer ``m``, or of an end, of pass ``p``. ``charged`` are the charges int64[gpus,
categories] of the pass beyond those of its terms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from moesim.engine.replay.clock.records import (
    AFTER,
    BARRIER,
    BEFORE_GATE,
    BEGIN,
    BESIDE,
    DECODE,
    DISPATCH,
    ENCODE,
    END,
    FILLED,
    FIXED,
    FLAT,
    GPUS,
    HOST,
    LAUNCH_ATTENTION,
    LAUNCH_DENSE,
    LAUNCH_GATE,
    LAUNCH_SEQUENCE,
    LAUNCH_SHARED,
    MOE,
    MOVED,
    MOVING,
    OF_GATE,
    PASSES,
    PERMUTE,
    STALL,
    TABLE,
    WAIT,
    WAITS,
    WEIGHTS,
)
from moesim.runtime.compiled import njit, types

Function = TypeVar("Function", bound=Callable[..., Any])
_INT = types.int64
_TUPLE: Any = types.UniTuple
_PAIR = _TUPLE(_INT, 2)


def compiled_clock(
    signature: Any, *, inline: bool = False, vectors: bool = False
) -> Callable[[Function], Function]:
    """Compile a function that makes no array, so that references to those that it is given need no
    count; ``inline``: into those that call it. Its loops are over few GPUs: vectors would cost more
    than they save.
    """
    options = {"cache": not inline, "inner": inline, "vectors": vectors}
    return njit(signature, **options, _nrt=False, forceinline=inline)


inlined = partial(compiled_clock, inline=True)


@inlined(_INT(TABLE, _INT, _INT, _INT, _INT))
def charge(charged: Any, gpu: int, category: int, cursor: int, until: int) -> int:
    """Charge the time up to ``until`` that is not charged yet; returns the new cursor."""
    if until <= cursor:
        return cursor
    charged[gpu, category] += until - cursor
    return until


@inlined(_INT(GPUS, TABLE, _INT))
def _wait_for_moved(gpus: Any, charged: Any, due: int) -> int:
    """A collective that is ``due`` waits for experts that move; when it begins."""
    moved, category = gpus.moved[MOVED], gpus.moved[MOVING]
    for g in range(len(gpus.time)):
        cursor = charge(charged, g, BARRIER, gpus.cursor[g], due)
        gpus.cursor[g] = charge(charged, g, category, cursor, moved)
    return int(moved)


@inlined(types.void(GPUS, TABLE, FLAT, _INT))
def meet(gpus: Any, charged: Any, when: Any, price: int) -> None:
    """A collective: it starts when the last GPU is there; ``when`` becomes its end."""
    start = when[0]
    for g in range(1, len(when)):
        start = max(start, when[g])
    if start < gpus.moved[MOVED]:
        start = _wait_for_moved(gpus, charged, start)
    for g in range(len(when)):  # who waits would be guessed wrong
        cursor = gpus.cursor[g]
        charged[g, BARRIER] += max(start - cursor, 0)
        charged[g, DISPATCH] += max(start + price - max(start, cursor), 0)
        gpus.cursor[g] = max(start + price, cursor)
        when[g] = start + price


@inlined(types.void(GPUS, TABLE, _INT))
def begin_pass(gpus: Any, starts: Any, p: int) -> None:
    """Each GPU and its host begin when its last pass has ended, but not before ``starts``, which
    becomes when they do. Nothing is charged for the wait.
    """
    for g in range(len(gpus.time)):
        start = max(gpus.time[g], starts[p, g])
        gpus.time[g] = gpus.host[g] = gpus.cursor[g] = starts[p, g] = start


@inlined(_INT(FIXED, PASSES, _INT, _INT))
def _host_attention(fixed: Any, passes: Any, p: int, m: int) -> int:
    """How long the host launches a layer's attention."""
    decode = passes.phase[p] == DECODE
    return int(fixed.hosts[m, LAUNCH_ATTENTION if decode else LAUNCH_SEQUENCE])


@inlined(_PAIR(FIXED, PASSES, *[_INT] * 5))
def dense(fixed: Any, passes: Any, p: int, m: int, g: int, time: int, host: int) -> tuple[int, int]:
    """A dense layer of a GPU from ``time`` on: the new time, up to which all is charged where a
    layer begins, and the new ``host``.
    """
    launched = _host_attention(fixed, passes, p, m) + fixed.hosts[m, LAUNCH_DENSE]
    return time + passes.stage_ns[passes.plan[m, BEFORE_GATE], p, g], host + launched


@inlined(types.void(FIXED, PASSES, GPUS, _INT, _INT))
def play_dense(fixed: Any, passes: Any, gpus: Any, p: int, m: int) -> None:
    """A dense layer."""
    for g in range(len(gpus.time)):
        time, gpus.host[g] = dense(fixed, passes, p, m, g, gpus.time[g], gpus.host[g])
        gpus.time[g] = gpus.cursor[g] = time


@inlined(_TUPLE(_INT, 4)(FIXED, PASSES, *[_INT] * 5))
def gate(
    fixed: Any, passes: Any, p: int, m: int, g: int, time: int, host: int
) -> tuple[int, int, int, int]:
    """Attention, gate, permuting where no capacity is agreed on, and the shared expert of a GPU
    from ``time`` on, which its ``host`` launches: when rows are ready, when the GPU is free, the
    new host, and when counts are known. It is charged up to when it is free.
    """
    plan, stage_ns = passes.plan, passes.stage_ns
    gated = time + stage_ns[plan[m, BEFORE_GATE], p, g] + stage_ns[plan[m, OF_GATE], p, g]
    host += _host_attention(fixed, passes, p, m) + fixed.hosts[m, LAUNCH_GATE]
    beside, ready = stage_ns[plan[m, BESIDE], p, g], gated
    if beside > 0:
        host += fixed.hosts[m, LAUNCH_SHARED]
    if not fixed.agrees:
        ready += stage_ns[plan[m, PERMUTE], p, g]
    free = ready + beside
    return ready, free, host, gated if fixed.overlaps else free


@inlined(types.void(FIXED, PASSES, GPUS, _INT, _INT))
def _play_gate(fixed: Any, passes: Any, gpus: Any, p: int, m: int) -> None:
    """What comes before the counts are exchanged."""
    for g in range(len(gpus.time)):
        gpus.ready[g], gpus.free[g], gpus.host[g], gpus.known[g] = gate(
            fixed, passes, p, m, g, gpus.time[g], gpus.host[g]
        )
        gpus.cursor[g] = gpus.free[g]


@inlined(_TUPLE(_INT, 5)(FIXED, PASSES, TABLE, *[_INT] * 8))
def wait_for_counts(
    fixed: Any, passes: Any, charged: Any, p: int, m: int, g: int, ready: int, free: int,
    host: int, known: int, cursor: int,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """The wait of a GPU's host for the counts, and permuting where a capacity is agreed on; returns
    the last five anew.
    """
    if fixed.hosts[m, WAITS] > 0:
        asked = max(known, host)
        cursor = charge(charged, g, HOST, cursor, asked)
        known = host = asked + fixed.wait_ns[g, passes.plan[m, MOE]]
        cursor = charge(charged, g, HOST, cursor, known)
    if fixed.agrees:
        time = max(known, free) + passes.stage_ns[passes.plan[m, PERMUTE], p, g]
        ready = free = cursor = time
    return max(ready, known), free, host, known, cursor


@inlined(types.void(FIXED, PASSES, GPUS, TABLE, _INT, _INT))
def _know_counts(fixed: Any, passes: Any, gpus: Any, charged: Any, p: int, m: int) -> None:
    """The exchange of counts, and what follows it."""
    if fixed.gathers:
        meet(gpus, charged, gpus.known, passes.dispatch[passes.plan[m, MOE], p])
    elif fixed.exchange > 0:
        meet(gpus, charged, gpus.known, fixed.exchange)
    for g in range(len(gpus.time)):
        gpus.ready[g], gpus.free[g], gpus.host[g], gpus.known[g], gpus.cursor[g] = wait_for_counts(
            fixed, passes, charged, p, m, g, gpus.ready[g], gpus.free[g], gpus.host[g],
            gpus.known[g], gpus.cursor[g],
        )  # fmt: skip


@inlined(types.void(FILLED, TABLE, *[_INT] * 4))
def begin_record(filled: Any, charged: Any, p: int, moe: int, g: int, time: int) -> None:
    """Record that a MoE layer of a GPU begins at ``time``, where that is kept."""
    if len(filled.records) > 0:
        filled.records[p, moe, g, BEGIN] = time
        filled.records[p, moe, g, STALL] = -charged[g, WEIGHTS]
        filled.records[p, moe, g, WAIT] = -charged[g, BARRIER]


@inlined(types.void(FILLED, TABLE, *[_INT] * 4))
def end_record(filled: Any, charged: Any, p: int, moe: int, g: int, time: int) -> None:
    """Record that it ends."""
    if len(filled.records) > 0:
        filled.records[p, moe, g, END] = time
        filled.records[p, moe, g, STALL] += charged[g, WEIGHTS]
        filled.records[p, moe, g, WAIT] += charged[g, BARRIER]


@inlined(types.void(FIXED, PASSES, GPUS, FILLED, TABLE, _INT, _INT))
def reach_experts(
    fixed: Any, passes: Any, gpus: Any, filled: Any, charged: Any, p: int, m: int
) -> None:
    """A MoE layer up to the end of dispatch."""
    moe = passes.plan[m, MOE]
    for g in range(len(gpus.time)):
        begin_record(filled, charged, p, moe, g, gpus.time[g])
    _play_gate(fixed, passes, gpus, p, m)
    _know_counts(fixed, passes, gpus, charged, p, m)
    if len(gpus.time) > 1 and not fixed.gathers:
        meet(gpus, charged, gpus.ready, passes.dispatch[moe, p])


@inlined(_INT(PASSES, *[_INT] * 4))
def unpermuted(passes: Any, p: int, m: int, g: int, time: int) -> int:
    """When a MoE layer ends whose experts' rows are back at ``time``."""
    return int(time + passes.stage_ns[passes.plan[m, AFTER], p, g])


@inlined(types.void(PASSES, GPUS, FILLED, TABLE, _INT, _INT))
def end_layer(passes: Any, gpus: Any, filled: Any, charged: Any, p: int, m: int) -> None:
    """A MoE layer from combine on; the experts of GPUs have ended when they are ``ready``."""
    moe = passes.plan[m, MOE]
    if len(gpus.time) > 1:
        meet(gpus, charged, gpus.ready, passes.combine[moe, p])
    for g in range(len(gpus.time)):
        time = unpermuted(passes, p, m, g, gpus.ready[g])
        gpus.time[g] = gpus.cursor[g] = time
        end_record(filled, charged, p, moe, g, time)


@inlined(_INT(FIXED, PASSES, TABLE, *[_INT] * 4))
def head(fixed: Any, passes: Any, charged: Any, p: int, g: int, time: int, host: int) -> int:
    """The head of a pass of a GPU from ``time`` on, and the wait for its ``host``; when it ends."""
    time += passes.head[p, g]
    if passes.phase[p] != ENCODE:
        host += fixed.head
    end = max(time, host)
    charged[g, HOST] += end - time
    return int(end)


@inlined(types.void(FIXED, PASSES, GPUS, TABLE, TABLE, _INT))
def end_pass(fixed: Any, passes: Any, gpus: Any, ends: Any, charged: Any, p: int) -> None:
    """The head, and the wait for the host."""
    for g in range(len(gpus.time)):
        end = head(fixed, passes, charged, p, g, gpus.time[g], gpus.host[g])
        gpus.time[g] = gpus.host[g] = gpus.cursor[g] = ends[p, g] = end
