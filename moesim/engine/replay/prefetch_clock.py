"""The clock of docs/semantics.md where prefetches make decisions depend on it, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.config.compiled import njit, types
from moesim.engine.replay.callback import ASK, DRAW
from moesim.engine.replay.clock import (
    AGREES,
    ATTENTION,
    BARRIER,
    CHARGED,
    COPY_HOST,
    CPU,
    CURSOR,
    DECODE,
    DISPATCH,
    ENCODE,
    EXCHANGE,
    EXPERTS,
    GATE,
    HOST,
    HOST_ATTENTION,
    HOST_COMBINE,
    HOST_DENSE,
    HOST_GATE,
    HOST_HEAD,
    HOST_SEQUENCE,
    HOST_SHARED,
    HOST_TIME,
    HOST_WAVE,
    MOE,
    OF_ATTENTION,
    OF_GATE,
    OF_PREPARE,
    OF_RESTORE,
    OF_SHARED,
    SYNCHRONISES,
    TIME,
    WEIGHTS,
    _charge,
    _meet,
)
from moesim.engine.replay.prefetch_arrays import (
    COPIES,
    FREE,
    HOSTED_NS,
    NOT_POOLED,
    PADS,
    SERIAL,
    WAVES,
)
from moesim.engine.replay.prefetch_issue import prefetch
from moesim.engine.replay.prefetch_queue import advance
from moesim.engine.replay.prefetch_turns import (
    all_hit,
    decide_turns,
    end_prefetches,
    read_needs,
)
from moesim.engine.replay.prefetch_types import (
    ASKED,
    BESIDE,
    DECIDED,
    PATTERNS,
    POOLS,
    PREDICTED,
    QUEUE,
    TURNING,
)
from moesim.engine.replay.prefetch_work import price_work, queue_copies
from moesim.memory.decisions import AFTER, BEFORE, KEY, PLACE

_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_FOUR = types.int64[:, :, :, ::1]


@njit(
    types.void(
        types.FunctionType(KEY), types.FunctionType(BEFORE), types.FunctionType(AFTER),
        types.FunctionType(PLACE), types.FunctionType(ASK), types.FunctionType(DRAW),
        _FLAT, POOLS, QUEUE, ASKED, PREDICTED, PATTERNS, BESIDE, TURNING, DECIDED, _FLAT,
        types.int64,
        _FLAT, _TABLE, _TABLE, _FLAT, types.boolean[:, ::1], types.uint8[::1],
        _CUBE, _CUBE, _CUBE, _CUBE, _CUBE, _TABLE, _TABLE, _TABLE,
        _TABLE, _TABLE, _TABLE, _CUBE, _FOUR, _FOUR,
    ),
    cache=True,
)  # fmt: skip
def play_ahead(
    key: Any, before_turn: Any, after_turn: Any, place_of: Any, ask: Any, draw_of: Any,
    choices: Any, pools: Any, queue: Any, asked: Any, predicted: Any, known_prices: Any,
    beside: Any, turning: Any, decided: Any, local: Any, first: int,
    fixed: Any, plan: Any, of_layer: Any, launches: Any, runs: Any, phase: Any,
    attention: Any, gate: Any, prepare: Any, shared: Any, restore: Any, head: Any,
    dispatch: Any, combine: Any,
    state: Any, starts: Any, ends: Any, charges: Any, records: Any, counts: Any,
) -> None:  # fmt: skip
    """Decide and play the passes of a chunk, from pass ``first`` on; as ``clock.play``, where
    copies run beside kernels and block no host. ``counts`` int64[passes, MoE layers, gpus,
    COUNTED].
    """
    passes, gpus = head.shape
    keeps = records.shape[0] > 0
    to_gate, agrees = fixed[HOST_GATE], fixed[AGREES]
    to_shared, to_wave, to_combine = fixed[HOST_SHARED], fixed[HOST_WAVE], fixed[HOST_COMBINE]
    synchronises, exchange, to_copy = fixed[SYNCHRONISES], fixed[EXCHANGE], fixed[COPY_HOST]
    sizes, copies_ns = beside.bytes, of_layer[0]
    serial, pads = choices[SERIAL] != 0, choices[PADS] != 0
    known, free = np.zeros(gpus, np.int64), np.zeros(gpus, np.int64)
    ready, begin = np.zeros(gpus, np.int64), np.zeros(gpus, np.int64)
    before, charged = np.zeros((gpus, CHARGED), np.int64), np.zeros((gpus, CHARGED), np.int64)
    wave_end = np.zeros(len(decided.wave_ns), np.int64)
    for p in range(passes):
        charged[:] = 0
        to_attention = fixed[HOST_ATTENTION if phase[p] == DECODE else HOST_SEQUENCE]
        for g in range(gpus):
            starts[p, g] = state[TIME, g]
        for m in range(len(plan)):
            if not runs[p, m]:
                continue
            moe, of_attention = plan[m, MOE], plan[m, OF_ATTENTION]
            of_gate, of_prepare = plan[m, OF_GATE], plan[m, OF_PREPARE]
            of_shared, of_restore = plan[m, OF_SHARED], plan[m, OF_RESTORE]
            if moe < 0:
                for g in range(gpus):
                    time = state[TIME, g] + attention[of_attention, p, g]
                    charged[g, ATTENTION] += attention[of_attention, p, g]
                    state[TIME, g] = state[CURSOR, g] = time
                    state[HOST_TIME, g] += to_attention + fixed[HOST_DENSE]
                continue
            for g in range(gpus):
                begin[g] = state[TIME, g]
                if keeps:
                    before[g] = charged[g]
                gated = state[TIME, g] + attention[of_attention, p, g] + gate[of_gate, p, g]
                charged[g, ATTENTION] += attention[of_attention, p, g]
                charged[g, GATE] += gate[of_gate, p, g]
                host = state[HOST_TIME, g] + to_attention + to_gate
                shared_ns = shared[of_shared, p, g]
                if shared_ns > 0:
                    host += to_shared
                    charged[g, EXPERTS] += shared_ns
                ready[g] = gated
                if not agrees:
                    ready[g] += prepare[of_prepare, p, g]
                    charged[g, GATE] += prepare[of_prepare, p, g]
                free[g] = state[CURSOR, g] = ready[g] + shared_ns
                state[HOST_TIME, g] = host
                known[g] = gated
            if exchange > 0:
                _meet(state, charged, known, exchange)
            for g in range(gpus):
                if synchronises:
                    told = max(known[g], state[HOST_TIME, g])
                    cursor = _charge(charged, g, HOST, state[CURSOR, g], told)
                    known[g] = state[HOST_TIME, g] = told + of_layer[1 + g, moe]
                    state[CURSOR, g] = _charge(charged, g, HOST, cursor, known[g])
                if agrees:
                    time = max(known[g], free[g]) + prepare[of_prepare, p, g]
                    state[CURSOR, g] = _charge(charged, g, GATE, state[CURSOR, g], time)
                    ready[g] = free[g] = time
                ready[g] = max(ready[g], known[g])
            if gpus > 1:
                _meet(state, charged, ready, dispatch[moe, p])
            for g in range(gpus):
                k, now, own = moe * gpus + g, known[g], local[g]
                advance(queue, copies_ns, sizes, own, g, now)
                read_needs(asked, turning, k, p)
                if pools.of_work[k] == NOT_POOLED:
                    all_hit(turning, serial)
                else:
                    end_prefetches(pools, queue, turning, sizes, own, k, gpus, now)
                    decide_turns(key, before_turn, after_turn, place_of, choices, pools, asked,
                                 turning, own, k, p, first + p)  # fmt: skip
                queue_copies(pools, queue, turning, decided, sizes, own, k, gpus, first + p, now,
                             to_copy, counts[p, moe, g])  # fmt: skip
                price_work(ask, known_prices, beside, turning, decided, moe, pads,
                           counts[p, moe, g])  # fmt: skip
                issued = prefetch(
                    key, draw_of, choices, pools, queue, turning, predicted, decided, sizes, own,
                    k, gpus, p, first + p, now, to_copy,
                )  # fmt: skip
                time, cursor, copy = max(ready[g], free[g]), state[CURSOR, g], 0
                copied, copies = queue.engine[g, FREE], decided.told[COPIES]
                for wave in range(decided.told[WAVES]):
                    arrived = decided.there[wave]
                    while copy < copies and decided.copy_wave[copy] == wave:
                        start, wait = (
                            max(decided.copy_issued[copy], copied),
                            decided.copy_wait[copy],
                        )
                        if wait >= 0:
                            start = max(start, wave_end[wait])
                        copied = arrived = start + copies_ns[moe]
                        copy += 1
                    if arrived >= 0:
                        time = max(time, arrived)
                        cursor = _charge(charged, g, WEIGHTS, cursor, time)
                    time += decided.wave_ns[wave]
                    cursor = _charge(charged, g, EXPERTS, cursor, time)
                    if decided.read_ns[wave] > 0:
                        time += decided.read_ns[wave]
                        cursor = _charge(charged, g, WEIGHTS, cursor, time)
                    wave_end[wave] = time
                queue.engine[g, FREE] = copied
                host = state[HOST_TIME, g]
                if issued > 0:
                    host = max(host, now) + issued * to_copy
                launched = decided.told[WAVES] if launches[k] < 0 else launches[k]
                state[HOST_TIME, g] = host + launched * to_wave + to_combine
                if decided.told[HOSTED_NS] > 0:
                    time = max(time, ready[g] + decided.told[HOSTED_NS])
                    cursor = _charge(charged, g, CPU, cursor, time)
                ready[g], state[TIME, g], state[CURSOR, g] = time, time, cursor
            if gpus > 1:
                _meet(state, charged, ready, combine[moe, p])
            for g in range(gpus):
                time = ready[g] + restore[of_restore, p, g]
                _charge(charged, g, DISPATCH, state[CURSOR, g], time)
                state[TIME, g] = state[CURSOR, g] = time
                if keeps:
                    records[p, moe, g, 0], records[p, moe, g, 1] = begin[g], time
                    records[p, moe, g, 2] = charged[g, WEIGHTS] - before[g, WEIGHTS]
                    records[p, moe, g, 3] = charged[g, BARRIER] - before[g, BARRIER]
        for g in range(gpus):
            time = state[TIME, g] + head[p, g]
            charged[g, ATTENTION] += head[p, g]
            if phase[p] != ENCODE:
                state[HOST_TIME, g] += fixed[HOST_HEAD]
            end = max(time, state[HOST_TIME, g])
            charged[g, HOST] += end - time
            state[TIME, g] = state[HOST_TIME, g] = state[CURSOR, g] = ends[p, g] = end
            charges[p, g] = charged[g]
