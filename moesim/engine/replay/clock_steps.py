"""The steps of docs/semantics.md's clock that do not depend on how a layer's experts are decided,
compiled. Both clocks call them for all GPUs of a layer, or of the end of a pass, at once; their
arrays are those of ``clock.play``, and ``charged`` the charges int64[gpus, categories] of the
pass beyond those of its terms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba

from moesim.engine.replay.clock_places import (
    AFTER,
    AGREES,
    BARRIER,
    BEFORE_GATE,
    BEGIN,
    BESIDE,
    CURSOR,
    DECODE,
    DISPATCH,
    ENCODE,
    END,
    EXCHANGE,
    HOST,
    HOST_ATTENTION,
    HOST_DENSE,
    HOST_GATE,
    HOST_HEAD,
    HOST_SEQUENCE,
    HOST_SHARED,
    HOST_TIME,
    LAUNCHED,
    MOE,
    OF_GATE,
    OVERLAPS,
    PERMUTE,
    STALL,
    SYNCHRONISES,
    TIME,
    WAIT,
    WEIGHTS,
)
from moesim.runtime.compiled import njit, types

Function = TypeVar("Function", bound=Callable[..., Any])
_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_FOUR, _PHASE = types.int64[:, :, :, ::1], types.uint8[::1]


def compiled_clock(signature: Any, *, inline: bool = False) -> Callable[[Function], Function]:
    """Compile a function that makes no array, so that references to those that it is given need no
    count; ``inline``: into those that call it. Its loops are over few GPUs: vectors would cost more
    than they save.
    """
    compiler: Any = njit
    config: Any = numba.config

    def compile_it(function: Function) -> Function:
        vectorizes, config.LOOP_VECTORIZE = config.LOOP_VECTORIZE, 0
        try:
            compiled: Function = compiler(signature, cache=True, _nrt=False, forceinline=inline)(
                function
            )
        finally:
            config.LOOP_VECTORIZE = vectorizes
        return compiled

    return compile_it


inlined = partial(compiled_clock, inline=True)


@inlined(types.int64(_TABLE, types.int64, types.int64, types.int64, types.int64))
def charge(charged: Any, gpu: int, category: int, cursor: int, until: int) -> int:
    """Charge the time up to ``until`` that is not charged yet; returns the new cursor."""
    if until <= cursor:
        return cursor
    charged[gpu, category] += until - cursor
    return until


@inlined(types.void(_TABLE, _TABLE, _FLAT, types.int64))
def meet(state: Any, charged: Any, when: Any, price: int) -> None:
    """A collective: it starts when the last GPU is there; ``when`` becomes its end."""
    start = when[0]
    for gpu in range(1, len(when)):
        start = max(start, when[gpu])
    for gpu in range(len(when)):
        cursor = charge(charged, gpu, BARRIER, state[CURSOR, gpu], start)
        state[CURSOR, gpu] = charge(charged, gpu, DISPATCH, cursor, start + price)
        when[gpu] = start + price


@inlined(types.void(types.int64, _TABLE, _TABLE))
def begin_pass(p: int, state: Any, starts: Any) -> None:
    """Each GPU and its host begin when its last pass has ended, but not before ``starts`` int64[
    passes, gpus], which becomes when they do. Nothing is charged for the wait.
    """
    for g in range(state.shape[1]):
        start = max(state[TIME, g], starts[p, g])
        state[TIME, g] = state[HOST_TIME, g] = state[CURSOR, g] = starts[p, g] = start


@inlined(types.int64(_FLAT, _PHASE, types.int64))
def host_attention(fixed: Any, phase: Any, p: int) -> int:
    """How long the host launches a layer's attention in pass ``p``."""
    return int(fixed[HOST_ATTENTION if phase[p] == DECODE else HOST_SEQUENCE])


@inlined(types.void(_FLAT, _TABLE, types.int64, _CUBE, types.int64, types.int64, _TABLE))
def play_dense(
    fixed: Any, plan: Any, to_attend: int, stage_ns: Any, p: int, m: int, state: Any
) -> None:
    """Dense layer ``m`` of pass ``p``: all time is charged where a layer begins."""
    before, launched = plan[m, BEFORE_GATE], to_attend + fixed[HOST_DENSE] + plan[m, LAUNCHED]
    for g in range(state.shape[1]):
        state[TIME, g] += stage_ns[before, p, g]
        state[CURSOR, g] = state[TIME, g]
        state[HOST_TIME, g] += launched


@inlined(
    types.void(
        _FLAT, _TABLE, types.int64, _CUBE, types.int64, types.int64, _TABLE, _FLAT, _FLAT, _FLAT,
    ))  # fmt: skip
def play_gate(
    fixed: Any, plan: Any, to_attend: int, stage_ns: Any, p: int, m: int, state: Any,
    known: Any, free: Any, ready: Any,
) -> None:  # fmt: skip
    """Attention, gate, permuting where no capacity is agreed on, and the shared expert."""
    before, gate = plan[m, BEFORE_GATE], plan[m, OF_GATE]
    permute, shared = plan[m, PERMUTE], plan[m, BESIDE]
    launched = to_attend + fixed[HOST_GATE] + plan[m, LAUNCHED]
    for g in range(state.shape[1]):
        gated = state[TIME, g] + stage_ns[before, p, g] + stage_ns[gate, p, g]
        beside, host = stage_ns[shared, p, g], state[HOST_TIME, g] + launched
        if beside > 0:
            host += fixed[HOST_SHARED]
        ready[g] = gated
        if not fixed[AGREES]:
            ready[g] += stage_ns[permute, p, g]
        free[g] = state[CURSOR, g] = ready[g] + beside
        state[HOST_TIME, g] = host
        known[g] = gated if fixed[OVERLAPS] else free[g]


@inlined(
    types.void(
        _FLAT, _TABLE, _TABLE, _CUBE, types.int64, types.int64, _TABLE, _TABLE, _FLAT, _FLAT,
        _FLAT,
    ))  # fmt: skip
def know_counts(
    fixed: Any, plan: Any, of_layer: Any, stage_ns: Any, p: int, m: int, state: Any, charged: Any,
    known: Any, free: Any, ready: Any,
) -> None:  # fmt: skip
    """The exchange of counts, the wait of the host for them, and permuting where a capacity is
    agreed on.
    """
    moe, permute = plan[m, MOE], plan[m, PERMUTE]
    if fixed[EXCHANGE] > 0:
        meet(state, charged, known, fixed[EXCHANGE])
    for g in range(state.shape[1]):
        if fixed[SYNCHRONISES]:
            asked = max(known[g], state[HOST_TIME, g])
            cursor = charge(charged, g, HOST, state[CURSOR, g], asked)
            known[g] = state[HOST_TIME, g] = asked + of_layer[1 + g, moe]
            state[CURSOR, g] = charge(charged, g, HOST, cursor, known[g])
        if fixed[AGREES]:
            time = max(known[g], free[g]) + stage_ns[permute, p, g]
            ready[g] = free[g] = state[CURSOR, g] = time
        ready[g] = max(ready[g], known[g])


@inlined(
    types.void(
        _FLAT, _TABLE, _TABLE, types.int64, _CUBE, _TABLE, types.int64, types.int64,
        _TABLE, _TABLE, _FOUR, _FLAT, _FLAT, _FLAT,
    ))  # fmt: skip
def reach_experts(
    fixed: Any, plan: Any, of_layer: Any, to_attend: int, stage_ns: Any, dispatch: Any,
    p: int, m: int, state: Any, charged: Any, records: Any, known: Any, free: Any, ready: Any,
) -> None:  # fmt: skip
    """MoE layer ``m`` of pass ``p`` up to the end of dispatch. Filled in, int64[gpus]: when counts
    are ``known``, when the GPU is ``free`` of the shared expert, when rows are ``ready``.
    """
    gpus, moe = state.shape[1], plan[m, MOE]
    for g in range(gpus if records.shape[0] > 0 else 0):
        records[p, moe, g, BEGIN] = state[TIME, g]
        records[p, moe, g, STALL] = -charged[g, WEIGHTS]
        records[p, moe, g, WAIT] = -charged[g, BARRIER]
    play_gate(fixed, plan, to_attend, stage_ns, p, m, state, known, free, ready)
    know_counts(fixed, plan, of_layer, stage_ns, p, m, state, charged, known, free, ready)
    if gpus > 1:
        meet(state, charged, ready, dispatch[moe, p])


@inlined(
    types.void(
        _TABLE, _CUBE, _TABLE, types.int64, types.int64, _TABLE, _TABLE, _FOUR, _FLAT,
    ))  # fmt: skip
def end_layer(
    plan: Any, stage_ns: Any, combine: Any, p: int, m: int, state: Any, charged: Any, records: Any,
    ready: Any,
) -> None:  # fmt: skip
    """MoE layer ``m`` of pass ``p`` from combine on; ``ready``: when each GPU's experts ended."""
    gpus, moe, after = state.shape[1], plan[m, MOE], plan[m, AFTER]
    if gpus > 1:
        meet(state, charged, ready, combine[moe, p])
    for g in range(gpus):
        time = ready[g] + stage_ns[after, p, g]
        state[TIME, g] = state[CURSOR, g] = time
        if records.shape[0] > 0:
            records[p, moe, g, END] = time
            records[p, moe, g, STALL] += charged[g, WEIGHTS]
            records[p, moe, g, WAIT] += charged[g, BARRIER]


@inlined(types.void(_FLAT, _PHASE, _TABLE, types.int64, _TABLE, _TABLE, _TABLE))
def end_pass(
    fixed: Any, phase: Any, head: Any, p: int, state: Any, charged: Any, ends: Any
) -> None:
    """The head, and the wait for the host."""
    for g in range(state.shape[1]):
        time = state[TIME, g] + head[p, g]
        if phase[p] != ENCODE:
            state[HOST_TIME, g] += fixed[HOST_HEAD]
        end = max(time, state[HOST_TIME, g])
        charged[g, HOST] += end - time
        state[TIME, g] = state[HOST_TIME, g] = state[CURSOR, g] = ends[p, g] = end
