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


def compiled_clock(signature: Any, *, inline: bool = False) -> Callable[[Function], Function]:
    """Compile a function that makes no array, so that references to those that it is given need no
    count; ``inline``: into those that call it. Its loops are over few GPUs: vectors would cost more
    than they save.
    """
    options = {"cache": not inline, "at_once": not inline, "inner": inline, "vectors": False}
    return njit(signature, **options, _nrt=False, forceinline=inline)


inlined = partial(compiled_clock, inline=True)


@inlined(_INT(TABLE, _INT, _INT, _INT, _INT))
def charge(charged: Any, gpu: int, category: int, cursor: int, until: int) -> int:
    """Charge the time up to ``until`` that is not charged yet; returns the new cursor."""
    if until <= cursor:
        return cursor
    charged[gpu, category] += until - cursor
    return until


@inlined(types.void(GPUS, TABLE, FLAT, _INT))
def meet(gpus: Any, charged: Any, when: Any, price: int) -> None:
    """A collective: it starts when the last GPU is there; ``when`` becomes its end."""
    start = when[0]
    for g in range(1, len(when)):
        start = max(start, when[g])
    for g in range(len(when)):
        cursor = charge(charged, g, BARRIER, gpus.cursor[g], start)
        gpus.cursor[g] = charge(charged, g, DISPATCH, cursor, start + price)
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


@inlined(types.void(FIXED, PASSES, GPUS, _INT, _INT))
def play_dense(fixed: Any, passes: Any, gpus: Any, p: int, m: int) -> None:
    """A dense layer: all time is charged where a layer begins."""
    before = passes.plan[m, BEFORE_GATE]
    launched = _host_attention(fixed, passes, p, m) + fixed.hosts[m, LAUNCH_DENSE]
    for g in range(len(gpus.time)):
        gpus.time[g] += passes.stage_ns[before, p, g]
        gpus.cursor[g] = gpus.time[g]
        gpus.host[g] += launched


@inlined(types.void(FIXED, PASSES, GPUS, _INT, _INT))
def _play_gate(fixed: Any, passes: Any, gpus: Any, p: int, m: int) -> None:
    """Attention, gate, permuting where no capacity is agreed on, and the shared expert."""
    plan, stage_ns = passes.plan, passes.stage_ns
    before, gate = plan[m, BEFORE_GATE], plan[m, OF_GATE]
    permute, shared = plan[m, PERMUTE], plan[m, BESIDE]
    launched = _host_attention(fixed, passes, p, m) + fixed.hosts[m, LAUNCH_GATE]
    for g in range(len(gpus.time)):
        gated = gpus.time[g] + stage_ns[before, p, g] + stage_ns[gate, p, g]
        beside, host = stage_ns[shared, p, g], gpus.host[g] + launched
        if beside > 0:
            host += fixed.hosts[m, LAUNCH_SHARED]
        gpus.ready[g] = gated
        if not fixed.agrees:
            gpus.ready[g] += stage_ns[permute, p, g]
        gpus.free[g] = gpus.cursor[g] = gpus.ready[g] + beside
        gpus.host[g] = host
        gpus.known[g] = gated if fixed.overlaps else gpus.free[g]


@inlined(types.void(FIXED, PASSES, GPUS, TABLE, _INT, _INT))
def _know_counts(fixed: Any, passes: Any, gpus: Any, charged: Any, p: int, m: int) -> None:
    """The exchange of counts, the wait of the host for them, and permuting where a capacity is
    agreed on.
    """
    moe, permute = passes.plan[m, MOE], passes.plan[m, PERMUTE]
    if fixed.gathers:
        meet(gpus, charged, gpus.known, passes.dispatch[moe, p])
    elif fixed.exchange > 0:
        meet(gpus, charged, gpus.known, fixed.exchange)
    for g in range(len(gpus.time)):
        if fixed.hosts[m, WAITS] > 0:
            asked = max(gpus.known[g], gpus.host[g])
            cursor = charge(charged, g, HOST, gpus.cursor[g], asked)
            gpus.known[g] = gpus.host[g] = asked + fixed.wait_ns[g, moe]
            gpus.cursor[g] = charge(charged, g, HOST, cursor, gpus.known[g])
        if fixed.agrees:
            time = max(gpus.known[g], gpus.free[g]) + passes.stage_ns[permute, p, g]
            gpus.ready[g] = gpus.free[g] = gpus.cursor[g] = time
        gpus.ready[g] = max(gpus.ready[g], gpus.known[g])


@inlined(types.void(FIXED, PASSES, GPUS, FILLED, TABLE, _INT, _INT))
def reach_experts(
    fixed: Any, passes: Any, gpus: Any, filled: Any, charged: Any, p: int, m: int
) -> None:
    """A MoE layer up to the end of dispatch."""
    moe, records = passes.plan[m, MOE], filled.records
    for g in range(len(gpus.time) if len(records) > 0 else 0):
        records[p, moe, g, BEGIN] = gpus.time[g]
        records[p, moe, g, STALL] = -charged[g, WEIGHTS]
        records[p, moe, g, WAIT] = -charged[g, BARRIER]
    _play_gate(fixed, passes, gpus, p, m)
    _know_counts(fixed, passes, gpus, charged, p, m)
    if len(gpus.time) > 1 and not fixed.gathers:
        meet(gpus, charged, gpus.ready, passes.dispatch[moe, p])


@inlined(types.void(PASSES, GPUS, FILLED, TABLE, _INT, _INT))
def end_layer(passes: Any, gpus: Any, filled: Any, charged: Any, p: int, m: int) -> None:
    """A MoE layer from combine on; the experts of GPUs have ended when they are ``ready``."""
    moe, after, records = passes.plan[m, MOE], passes.plan[m, AFTER], filled.records
    if len(gpus.time) > 1:
        meet(gpus, charged, gpus.ready, passes.combine[moe, p])
    for g in range(len(gpus.time)):
        time = gpus.ready[g] + passes.stage_ns[after, p, g]
        gpus.time[g] = gpus.cursor[g] = time
        if len(records) > 0:
            records[p, moe, g, END] = time
            records[p, moe, g, STALL] += charged[g, WEIGHTS]
            records[p, moe, g, WAIT] += charged[g, BARRIER]


@inlined(types.void(FIXED, PASSES, GPUS, TABLE, TABLE, _INT))
def end_pass(fixed: Any, passes: Any, gpus: Any, ends: Any, charged: Any, p: int) -> None:
    """The head, and the wait for the host."""
    for g in range(len(gpus.time)):
        time = gpus.time[g] + passes.head[p, g]
        if passes.phase[p] != ENCODE:
            gpus.host[g] += fixed.head
        end = max(time, gpus.host[g])
        charged[g, HOST] += end - time
        gpus.time[g] = gpus.host[g] = gpus.cursor[g] = ends[p, g] = end
