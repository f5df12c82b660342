"""The clock of docs/semantics.md as a recursion over (pass, layer, GPU), compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.replay.clock_experts import after_victim, copy_start, end_experts, play_wave
from moesim.engine.replay.clock_places import (
    BLOCKING,
    COPIES_AHEAD,
    COPY_END,
    COPY_HOST,
    CURSOR,
    MOE,
    TIME,
    WEIGHTS,
)
from moesim.engine.replay.clock_steps import (
    begin_pass,
    charge,
    compiled_clock,
    end_layer,
    end_pass,
    host_attention,
    play_dense,
    reach_experts,
)
from moesim.runtime.compiled import njit, types

LAYER_BUFFERS = 2
"""One layer is copied while another computes."""

_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MASK = types.boolean[:, ::1]


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


@compiled_clock(
    types.void(
        _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _TABLE,
        _FLAT, _TABLE, _TABLE, _FLAT, _MASK, types.uint8[::1],
        _CUBE, _TABLE, _TABLE, _TABLE,
        _FLAT, _TABLE, _FLAT, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT, _MASK, _TABLE,
        _TABLE, _TABLE, _TABLE, _CUBE, types.int64[:, :, :, ::1],
    ))  # fmt: skip
def play_passes(
    known: Any, free: Any, ready: Any, to_stream: Any, wave_end: Any, coming: Any,
    fixed: Any, plan: Any, of_layer: Any, launches: Any, runs: Any, phase: Any,
    stage_ns: Any, head: Any, dispatch: Any, combine: Any,
    wave_base: Any, step_waves: Any, wave_ns: Any, read_ns: Any,
    copy_base: Any, step_copies: Any, copy_wave: Any, copy_wait: Any, streamed: Any, hosted: Any,
    state: Any, starts: Any, ends: Any, charges: Any, records: Any,
) -> None:  # fmt: skip
    """Play the passes of a chunk.

    ``fixed``: the constants of ``clock_places``, as are the columns of ``plan`` int64[model layers,
    7]. ``stage_ns`` int64[rows, passes, gpus]: the time of stages; ``of_layer`` int64[1 + gpus, MoE
    layers]: price of a copy, then by GPU the wait for the counts; ``launches`` int64[MoE layers x
    gpus]: kernels that the host launches in every pass, -1: the waves. ``runs`` bool[passes, model
    layers]. The rest as in ``chunk.Work``, with a row for each (MoE layer, GPU), and ``*_base``
    where its part begins; without rows (``read_ns``: elements) where nothing is streamed, hosted or
    read. ``starts`` has the instants before which no pass begins. Filled in: ``starts``, ``ends``,
    ``charges`` beyond those of terms and, where they are kept, ``records`` int64[passes, MoE
    layers, gpus, 4] of begin, end, stall and barrier.
    """
    passes, gpus = head.shape
    streams, hosts = streamed.shape[0] > 0, hosted.shape[0] > 0
    reads, blocking, to_copy = len(read_ns) > 0, fixed[BLOCKING] != 0, fixed[COPY_HOST]
    for p in range(passes):
        charged, to_attend = charges[p], host_attention(fixed, phase, p)
        begin_pass(p, state, starts)
        for g in range(gpus):
            if streams and fixed[COPIES_AHEAD]:
                to_stream[g] = 0
                for _ in range(LAYER_BUFFERS):
                    _copy_ahead(state, plan, runs, streamed, step_copies, of_layer, to_stream,
                                coming, p, g)  # fmt: skip
        for m in range(len(plan)):
            if not runs[p, m]:
                continue
            moe = plan[m, MOE]
            if moe < 0:
                play_dense(fixed, plan, to_attend, stage_ns, p, m, state)
                continue
            reach_experts(fixed, plan, of_layer, to_attend, stage_ns, dispatch, p, m, state,
                          charged, records, known, free, ready)  # fmt: skip
            for g in range(gpus):
                k = moe * gpus + g
                first, last = copy_base[k] + step_copies[k, p], copy_base[k] + step_copies[k, p + 1]
                low, high = wave_base[k] + step_waves[k, p], wave_base[k] + step_waves[k, p + 1]
                copied, copy_ns, copies = state[COPY_END, g], of_layer[0, moe], last - first
                time, cursor, now = max(ready[g], free[g]), state[CURSOR, g], known[g]
                ahead, copy = coming[g, moe], first
                if streams and streamed[k, p]:
                    arrived = ahead
                    for number in range(1, copies + 1 if ahead < 0 else 1):
                        start = copy_start(blocking, to_copy, now, number, copied)
                        copied = arrived = start + copy_ns
                    copy, coming[g, moe] = last, -1
                    time = max(time, arrived)
                    cursor = charge(charged, g, WEIGHTS, cursor, time)
                for wave in range(low, high):
                    arrived = -1
                    while copy < last and copy_wave[copy] == wave - low:
                        start = copy_start(blocking, to_copy, now, copy - first + 1, copied)
                        copied = after_victim(start, copy_wait[copy], wave_end) + copy_ns
                        arrived = copied
                        copy += 1
                    read = read_ns[wave] if reads else 0
                    time, cursor = play_wave(charged, g, time, cursor, arrived, wave_ns[wave], read)
                    wave_end[wave - low] = time
                state[COPY_END, g] = copied
                if streams and ahead >= 0:
                    state[TIME, g] = time
                    _copy_ahead(state, plan, runs, streamed, step_copies, of_layer, to_stream,
                                coming, p, g)  # fmt: skip
                launched = high - low if launches[k] < 0 else launches[k]
                hosted_ns = hosted[k, p] if hosts else 0
                end_experts(fixed, g, now, copies, copied, launched, hosted_ns, time, cursor,
                            ready, state, charged)  # fmt: skip
            end_layer(plan, stage_ns, combine, p, m, state, charged, records, ready)
        end_pass(fixed, phase, head, p, state, charged, ends)


def play(*given: Any) -> None:
    """Play the passes of a chunk; ``given`` as ``play_passes`` takes it, from ``fixed`` on, with
    the most waves of a layer before ``state``.
    """
    of_layer, most_waves = given[2], given[-6]
    gpus, layers = len(of_layer) - 1, of_layer.shape[1]
    scratch = [np.zeros(length, np.int64) for length in (gpus, gpus, gpus, gpus, most_waves)]
    arguments: list[Any] = [*scratch, np.full((gpus, layers), -1), *given[:-6], *given[-5:]]
    play_passes(*arguments)
