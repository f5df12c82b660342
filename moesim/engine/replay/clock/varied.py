"""The clock of one GPU whose layers have a launch for each variant of experts that they need, each
behind its own copies, which wait for nothing but one another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import copy_start, play_launch
from moesim.engine.replay.clock.one_gpu import BROUGHT, ONE, WORK, one_gpu_with
from moesim.engine.replay.clock.records import FILLED, FIXED, FLAT, GPUS, PASSES, TABLE
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.runtime.compiled import record, types


class VariedLaunches(NamedTuple):
    """How many experts of each variant a MoE layer ``needs``, and how many of them it ``misses``,
    uint16[passes, MoE layers, variants]; what the copies of these take, ``copy_ns`` int64[copies],
    where those of a layer begin, ``copy_at`` int64[passes, MoE layers]; and what a launch takes,
    ``kernel_ns`` int64[MoE layers, variants, 1 + k].
    """

    needs: Any
    misses: Any
    copy_at: Any
    copy_ns: Any
    kernel_ns: Any


_CUBE = types.uint16[:, :, ::1]
VARIED = record(VariedLaunches, _CUBE, _CUBE, TABLE, FLAT, types.int64[:, :, ::1])


@inlined(WORK(VARIED, types.int64, types.int64))
def _varied_work(works: Any, p: int, moe: int) -> Any:
    """What a layer has to do; the kernel is that of its last launch."""
    copies, launches, kernel_ns = np.int64(0), 0, np.int64(0)
    for variant in range(works.needs.shape[2]):
        number = np.int64(works.needs[p, moe, variant])
        if number > 0:
            launches, kernel_ns = launches + 1, works.kernel_ns[moe, variant, number]
            copies += np.int64(works.misses[p, moe, variant])
    return copies, launches, kernel_ns, 0, 0


@inlined(BROUGHT(FIXED, VARIED, GPUS, TABLE, *[types.int64] * 7))
def _brought(
    fixed: Any, works: Any, _gpus: Any, charged: Any, p: int, moe: int, _copies: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """What the last launch waits for, once those before it are played; where copies do not run
    beside kernels, those of a launch wait for the one before it.
    """
    arrived, kernel_ns, before = -1, -1, -1
    copy, issued = works.copy_at[p, moe], known
    for variant in range(works.needs.shape[2]):
        number = np.int64(works.needs[p, moe, variant])
        if number == 0:
            continue
        if kernel_ns >= 0:
            time, cursor = play_launch(charged, ONE, time, cursor, arrived, kernel_ns, 0)
            before = before if fixed.overlaps else time
        arrived, kernel_ns = -1, works.kernel_ns[moe, variant, number]
        for _ in range(works.misses[p, moe, variant]):
            issued += fixed.copy
            start = copy_start(fixed.blocking, fixed.copy, known, issued, copied)
            arrived = copied = max(start, before) + works.copy_ns[copy]
            copy += 1
    return time, cursor, copied, arrived


play_varied = compiled_clock(types.void(FIXED, PASSES, VARIED, GPUS, FILLED))(
    one_gpu_with(_varied_work, _brought)
)
"""The clock of layers whose experts have variants."""
