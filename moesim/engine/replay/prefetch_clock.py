"""The clock of docs/semantics.md where prefetches make decisions depend on it, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.replay.callback import ASK, DRAW
from moesim.engine.replay.clock_experts import after_victim, end_experts, play_wave
from moesim.engine.replay.clock_places import COPY_HOST, CURSOR, MOE
from moesim.engine.replay.clock_steps import (
    begin_pass,
    compiled_clock,
    end_layer,
    end_pass,
    host_attention,
    play_dense,
    reach_experts,
)
from moesim.engine.replay.prefetch_activations import (
    all_hit,
    decide_activations,
    end_prefetches,
    read_active_experts,
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
from moesim.engine.replay.prefetch_types import (
    ACTIVATING,
    ASKED,
    BESIDE,
    DECIDED,
    PATTERNS,
    POOLS,
    PREDICTED,
    QUEUE,
)
from moesim.engine.replay.prefetch_work import price_work, queue_copies
from moesim.memory.decisions import DECIDE, FIRST
from moesim.runtime.compiled import types

_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_FOUR = types.int64[:, :, :, ::1]


@compiled_clock(
    types.void(
        _FLAT, _FLAT, _FLAT, _FLAT,
        types.FunctionType(DECIDE), types.FunctionType(FIRST), types.FunctionType(ASK),
        types.FunctionType(DRAW),
        _FLAT, POOLS, QUEUE, ASKED, PREDICTED, PATTERNS, BESIDE, ACTIVATING, DECIDED, _FLAT,
        types.int64,
        _FLAT, _TABLE, _TABLE, _FLAT, types.boolean[:, ::1], types.uint8[::1],
        _CUBE, _TABLE, _TABLE, _TABLE,
        _TABLE, _TABLE, _TABLE, _CUBE, _FOUR, _FOUR,
    ))  # fmt: skip
def play_passes_ahead(
    known: Any, free: Any, ready: Any, wave_end: Any,
    decide: Any, first_of: Any, ask: Any, draw_of: Any,
    choices: Any, pools: Any, queue: Any, asked: Any, predicted: Any, known_prices: Any,
    beside: Any, activating: Any, decided: Any, local: Any, first: int,
    fixed: Any, plan: Any, of_layer: Any, launches: Any, runs: Any, phase: Any,
    stage_ns: Any, head: Any, dispatch: Any, combine: Any,
    state: Any, starts: Any, ends: Any, charges: Any, records: Any, counts: Any,
) -> None:  # fmt: skip
    """Decide and play the passes of a chunk, from pass ``first`` on; as ``clock.play``, where
    copies run beside kernels and block no host. ``counts`` int64[passes, MoE layers, gpus,
    COUNTED and forms].
    """
    passes, gpus = head.shape
    to_copy, sizes, copies_ns = fixed[COPY_HOST], beside.bytes, of_layer[0]
    serial, pads = choices[SERIAL] != 0, choices[PADS] != 0
    engine, told, there, wave_ns, read_ns = (
        queue.engine, decided.told, decided.there, decided.wave_ns, decided.read_ns,
    )  # fmt: skip
    copy_wave, copy_issued, copy_wait = decided.copy_wave, decided.copy_issued, decided.copy_wait
    for p in range(passes):
        charged, to_attend = charges[p], host_attention(fixed, phase, p)
        begin_pass(p, state, starts)
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
                k, now, own = moe * gpus + g, known[g], local[g]
                advance(queue, copies_ns, sizes, own, g, now)
                read_active_experts(asked, activating, k, p)
                if pools.of_work[k] == NOT_POOLED:
                    all_hit(activating, serial)
                else:
                    end_prefetches(pools, queue, activating, sizes, own, k, gpus, now)
                    decide_activations(
                        decide, choices, pools, asked, activating, own, k, p, first + p
                    )
                queue_copies(pools, queue, activating, decided, sizes, own, k, gpus, first + p, now,
                             to_copy, counts[p, moe, g])  # fmt: skip
                price_work(ask, known_prices, beside, activating, decided, moe, pads,
                           counts[p, moe, g])  # fmt: skip
                issued = prefetch(
                    first_of, draw_of, choices, pools, queue, activating, predicted, decided, sizes,
                    own, k, gpus, p, first + p, now, to_copy,
                )  # fmt: skip
                time, cursor, copy = max(ready[g], free[g]), state[CURSOR, g], 0
                copied, copies = engine[g, FREE], told[COPIES]
                for wave in range(told[WAVES]):
                    arrived = there[wave]
                    while copy < copies and copy_wave[copy] == wave:
                        start = max(copy_issued[copy], copied)
                        copied = after_victim(start, copy_wait[copy], wave_end) + copies_ns[moe]
                        arrived = copied
                        copy += 1
                    time, cursor = play_wave(charged, g, time, cursor, arrived, wave_ns[wave],
                                             read_ns[wave])  # fmt: skip
                    wave_end[wave] = time
                engine[g, FREE] = copied
                launched = told[WAVES] if launches[k] < 0 else launches[k]
                end_experts(fixed, g, now, issued, copied, launched, told[HOSTED_NS], time,
                            cursor, ready, state, charged)  # fmt: skip
            end_layer(plan, stage_ns, combine, p, m, state, charged, records, ready)
        end_pass(fixed, phase, head, p, state, charged, ends)


def play_ahead(*given: Any) -> None:
    """Decide and play the passes of a chunk; ``given`` as ``play_passes_ahead`` takes it, from
    ``decide`` on.
    """
    decided, state = given[12], given[-6]
    gpus, waves = state.shape[1], len(decided.wave_ns)
    scratch = [np.zeros(length, np.int64) for length in (gpus, gpus, gpus, waves)]
    arguments: list[Any] = [*scratch, *given]
    play_passes_ahead(*arguments)
