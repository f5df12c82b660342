"""The clock of docs/semantics.md as a recursion over (pass, layer, GPU), compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.config.compiled import njit, types
from moesim.trace.routing import Phase

ATTENTION, GATE, DISPATCH, EXPERTS, HOST, WEIGHTS, BARRIER, CPU = range(8)
"""Places in ``outcome.CHARGES``."""
(HOST_ATTENTION, HOST_SEQUENCE, HOST_DENSE, HOST_GATE, HOST_SHARED, HOST_WAVE, HOST_COMBINE,
HOST_HEAD, SYNCHRONISES, COPY_HOST, BLOCKING, OVERLAPS, COPIES_AHEAD, EXCHANGE,
AGREES) = range(15)  # fmt: skip
"""Places in the case's constants."""
DECODE, ENCODE = int(Phase.DECODE), int(Phase.ENCODE)
CHARGED = 8
TIME, CURSOR, HOST_TIME, COPY_END = range(4)
"""Rows of a clock's state int64[4, gpus]."""
MOE, OF_ATTENTION, OF_GATE, OF_PREPARE, OF_SHARED, OF_RESTORE = range(6)
"""Columns of the plan."""
LAYER_BUFFERS = 2
"""One layer is copied while another computes."""

_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MASK = types.boolean[:, ::1]


@njit(types.int64(_TABLE, types.int64, types.int64, types.int64, types.int64), cache=True)
def _charge(charged: Any, gpu: int, category: int, cursor: int, until: int) -> int:
    """Charge the time up to ``until`` that is not charged yet; returns the new cursor."""
    if until <= cursor:
        return cursor
    charged[gpu, category] += until - cursor
    return until


@njit(types.void(_TABLE, _TABLE, _FLAT, types.int64), cache=True)
def _meet(state: Any, charged: Any, when: Any, price: int) -> None:
    """A collective: it starts when the last GPU is there; ``when`` becomes its end."""
    start = when.max()
    for gpu in range(len(when)):
        cursor = _charge(charged, gpu, BARRIER, state[CURSOR, gpu], start)
        state[CURSOR, gpu] = _charge(charged, gpu, DISPATCH, cursor, start + price)
        when[gpu] = start + price


@njit(
    types.void(
        _TABLE, _TABLE, _MASK, _MASK, _TABLE, _TABLE, _FLAT, _TABLE, types.int64, types.int64
    ),
    cache=True,
)
def _copy_ahead(
    state: Any, plan: Any, runs: Any, streamed: Any, step_copies: Any, of_layer: Any,
    to_stream: Any, coming: Any, step: int, gpu: int,
) -> None:  # fmt: skip
    """Queue the copies of the pass's next layer that is copied whole; ``coming`` has their end."""
    gpus = state.shape[1]
    while to_stream[gpu] < len(plan):
        m = to_stream[gpu]
        to_stream[gpu] += 1
        moe = plan[m, MOE]
        if moe < 0 or not runs[step, m] or not streamed[moe * gpus + gpu, step]:
            continue
        of_work = step_copies[moe * gpus + gpu]
        number = of_work[step + 1] - of_work[step]
        start = max(state[TIME, gpu], state[COPY_END, gpu])
        state[COPY_END, gpu] = start + number * of_layer[0, moe]
        coming[gpu, moe] = state[COPY_END, gpu]
        return


@njit(
    types.void(
        _FLAT, _TABLE, _TABLE, _FLAT, _MASK, types.uint8[::1],
        _CUBE, _CUBE, _CUBE, _CUBE, _CUBE, _TABLE, _TABLE, _TABLE,
        _FLAT, _TABLE, _FLAT, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT, _MASK, _TABLE,
        types.int64, _TABLE, _TABLE, _TABLE, _CUBE, types.int64[:, :, :, ::1],
    ),
    cache=True,
)  # fmt: skip
def play(
    fixed: Any, plan: Any, of_layer: Any, launches: Any, runs: Any, phase: Any,
    attention: Any, gate: Any, prepare: Any, shared: Any, restore: Any,
    head: Any, dispatch: Any, combine: Any,
    wave_base: Any, step_waves: Any, wave_ns: Any, read_ns: Any,
    copy_base: Any, step_copies: Any, copy_wave: Any, copy_wait: Any, streamed: Any, hosted: Any,
    most_waves: int, state: Any, starts: Any, ends: Any, charges: Any, records: Any,
) -> None:  # fmt: skip
    """Play the passes of a chunk.

    ``fixed``: the constants named above. ``plan`` int64[model layers, 6]: MoE layer (or -1), and
    where its prices stand in ``attention``, ``gate``, ``prepare``, ``shared`` and ``restore``
    int64[kinds, passes, gpus]; ``of_layer`` int64[1 + gpus, MoE layers]: price of a copy, then by
    GPU the wait for the counts; ``launches`` int64[MoE layers x gpus]: kernels that the host
    launches in every pass, -1: the waves. ``runs`` bool[passes, model layers]. The rest as in
    ``chunk.Work``, with a row for each (MoE layer, GPU), and ``*_base`` where its part begins;
    without rows (``read_ns``: elements) where nothing is streamed, hosted or read. Filled in:
    ``starts``, ``ends``, ``charges`` and, where they are kept, ``records`` int64[passes, MoE
    layers, gpus, 4] of begin, end, stall and barrier.
    """
    passes, gpus = head.shape
    layers = of_layer.shape[1]
    keeps, streams, hosts = records.shape[0] > 0, streamed.shape[0] > 0, hosted.shape[0] > 0
    reads = len(read_ns) > 0
    to_gate, agrees = fixed[HOST_GATE], fixed[AGREES]
    to_shared, to_wave, to_combine = fixed[HOST_SHARED], fixed[HOST_WAVE], fixed[HOST_COMBINE]
    synchronises, overlaps, exchange = fixed[SYNCHRONISES], fixed[OVERLAPS], fixed[EXCHANGE]
    blocking, to_copy = fixed[BLOCKING], fixed[COPY_HOST]
    known, free = np.zeros(gpus, np.int64), np.zeros(gpus, np.int64)
    ready, begin = np.zeros(gpus, np.int64), np.zeros(gpus, np.int64)
    before, charged = np.zeros((gpus, CHARGED), np.int64), np.zeros((gpus, CHARGED), np.int64)
    coming, to_stream = np.full((gpus, layers), -1, np.int64), np.zeros(gpus, np.int64)
    wave_end = np.zeros(most_waves, np.int64)
    for p in range(passes):
        charged[:] = 0
        to_attention = fixed[HOST_ATTENTION if phase[p] == DECODE else HOST_SEQUENCE]
        for g in range(gpus):
            starts[p, g] = state[TIME, g]
            if streams and fixed[COPIES_AHEAD]:
                to_stream[g] = 0
                for _ in range(LAYER_BUFFERS):
                    _copy_ahead(state, plan, runs, streamed, step_copies, of_layer, to_stream,
                                coming, p, g)  # fmt: skip
        for m in range(len(plan)):
            if not runs[p, m]:
                continue
            moe, of_attention = plan[m, MOE], plan[m, OF_ATTENTION]
            of_gate, of_prepare = plan[m, OF_GATE], plan[m, OF_PREPARE]
            of_shared, of_restore = plan[m, OF_SHARED], plan[m, OF_RESTORE]
            if moe < 0:
                for g in range(gpus):  # all time is charged where a layer begins
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
                beside = shared[of_shared, p, g]
                if beside > 0:
                    host += to_shared
                    charged[g, EXPERTS] += beside
                ready[g] = gated
                if not agrees:
                    ready[g] += prepare[of_prepare, p, g]
                    charged[g, GATE] += prepare[of_prepare, p, g]
                free[g] = state[CURSOR, g] = ready[g] + beside
                state[HOST_TIME, g] = host
                known[g] = gated if overlaps else free[g]
            if exchange > 0:
                _meet(state, charged, known, exchange)
            for g in range(gpus):
                if synchronises:
                    asked = max(known[g], state[HOST_TIME, g])
                    cursor = _charge(charged, g, HOST, state[CURSOR, g], asked)
                    known[g] = state[HOST_TIME, g] = asked + of_layer[1 + g, moe]
                    state[CURSOR, g] = _charge(charged, g, HOST, cursor, known[g])
                if agrees:
                    time = max(known[g], free[g]) + prepare[of_prepare, p, g]
                    state[CURSOR, g] = _charge(charged, g, GATE, state[CURSOR, g], time)
                    ready[g] = free[g] = time
                ready[g] = max(ready[g], known[g])
            if gpus > 1:
                _meet(state, charged, ready, dispatch[moe, p])
            for g in range(gpus):
                k = moe * gpus + g
                time, cursor, counted = max(ready[g], free[g]), state[CURSOR, g], known[g]
                copy = first_copy = copy_base[k] + step_copies[k, p]
                last = copy_base[k] + step_copies[k, p + 1]
                copied, copy_ns, last_copy = state[COPY_END, g], of_layer[0, moe], 0
                ahead = coming[g, moe]
                if streams and streamed[k, p]:
                    last_copy = ahead
                    while ahead < 0 and copy < last:
                        if blocking:
                            issued = max(copied, counted) + to_copy
                        else:
                            issued = counted + (copy - first_copy + 1) * to_copy
                        copied = last_copy = max(issued, copied) + copy_ns
                        copy += 1
                    copy, coming[g, moe] = last, -1
                    time = max(time, last_copy)
                    cursor = _charge(charged, g, WEIGHTS, cursor, time)
                low, high = wave_base[k] + step_waves[k, p], wave_base[k] + step_waves[k, p + 1]
                for wave in range(low, high):
                    if copy < last and copy_wave[copy] == wave - low:
                        while copy < last and copy_wave[copy] == wave - low:
                            if blocking:
                                start = max(copied, counted) + to_copy
                            else:
                                start = max(copied, counted + (copy - first_copy + 1) * to_copy)
                            if copy_wait[copy] >= 0:
                                start = max(start, wave_end[copy_wait[copy]])
                            copied = start + copy_ns
                            copy += 1
                        last_copy = copied
                        time = max(time, copied)
                        cursor = _charge(charged, g, WEIGHTS, cursor, time)
                    time += wave_ns[wave]
                    cursor = _charge(charged, g, EXPERTS, cursor, time)
                    if reads and read_ns[wave] > 0:
                        time += read_ns[wave]
                        cursor = _charge(charged, g, WEIGHTS, cursor, time)
                    wave_end[wave - low] = time
                state[COPY_END, g], state[TIME, g] = copied, time
                if streams and ahead >= 0:
                    _copy_ahead(state, plan, runs, streamed, step_copies, of_layer, to_stream,
                                coming, p, g)  # fmt: skip
                host = state[HOST_TIME, g]
                if last > first_copy:
                    if blocking:
                        host = max(host, counted, last_copy)
                    else:
                        host = max(host, counted) + (last - first_copy) * to_copy
                launched = high - low if launches[k] < 0 else launches[k]
                state[HOST_TIME, g] = host + launched * to_wave + to_combine
                if hosts and hosted[k, p] > 0:
                    time = max(time, ready[g] + hosted[k, p])
                    cursor = _charge(charged, g, CPU, cursor, time)
                ready[g], state[CURSOR, g] = time, cursor
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
