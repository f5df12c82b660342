"""The clock of several GPUs whose layers are a launch on each of them, or none, behind copies that
wait for nothing but one another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import host_behind, last_copy
from moesim.engine.replay.clock.records import (
    EXPERTS,
    FILLED,
    FIXED,
    GPUS,
    MOE,
    PASSES,
    TABLE,
    WEIGHTS,
)
from moesim.engine.replay.clock.steps import (
    begin_pass,
    compiled_clock,
    end_layer,
    end_pass,
    inlined,
    play_dense,
    reach_experts,
)
from moesim.runtime.compiled import record, types


class Spread(NamedTuple):
    """How many experts are ``active`` in each layer, and ``misses``, of each GPU, uint16[passes,
    MoE layers, gpus], and what a launch of so many takes, ``kernel_ns`` int64[MoE layers, 1 + k].
    """

    active: Any
    misses: Any
    kernel_ns: Any


_CUBE = types.uint16[:, :, ::1]
SPREAD = record(Spread, _CUBE, _CUBE, TABLE)
_INT = types.int64


@inlined(types.void(FIXED, SPREAD, GPUS, TABLE, *[_INT] * 4))
def _play_experts(
    fixed: Any, works: Any, gpus: Any, charged: Any, p: int, m: int, moe: int, g: int
) -> None:
    """The copies and the launch of a GPU, whose ends become ``ready``. Nothing is skipped where
    there is neither, as it would be guessed wrong too often.
    """
    active, copies = int(np.int64(works.active[p, moe, g])), int(np.int64(works.misses[p, moe, g]))
    known, cursor = gpus.known[g], gpus.cursor[g]
    time = max(gpus.ready[g], gpus.free[g])
    copied = last_copy(
        fixed.blocking, fixed.copy, fixed.copy_ns[moe], copies, known, gpus.copied[g]
    )
    copied = copied if copies > 0 else gpus.copied[g]
    there = max(time, copied) if copies > 0 else time
    charged[g, WEIGHTS] += max(there - cursor, 0) if copies > 0 else 0
    cursor = max(cursor, there) if copies > 0 else cursor
    end = there + works.kernel_ns[moe, active]
    charged[g, EXPERTS] += max(end - cursor, 0) if active > 0 else 0
    gpus.cursor[g] = max(cursor, end) if active > 0 else cursor
    launches, k = 1 if active > 0 else 0, moe * len(gpus.time) + g
    gpus.host[g] = host_behind(fixed, m, k, gpus.host[g], known, copied, copies, launches)
    gpus.ready[g], gpus.copied[g] = end, copied


@compiled_clock(types.void(FIXED, PASSES, SPREAD, GPUS, FILLED))
def play_spread(fixed: Any, passes: Any, works: Any, gpus: Any, filled: Any) -> None:
    """Play the passes of a chunk."""
    for p in range(len(passes.runs)):
        charged = filled.charges[p]
        begin_pass(gpus, filled.starts, p)
        for m in range(len(passes.plan)):
            if not passes.runs[p, m]:
                continue
            moe = passes.plan[m, MOE]
            if moe < 0:
                play_dense(fixed, passes, gpus, p, m)
                continue
            reach_experts(fixed, passes, gpus, filled, charged, p, m)
            for g in range(len(gpus.time)):
                _play_experts(fixed, works, gpus, charged, p, m, moe, g)
            end_layer(passes, gpus, filled, charged, p, m)
        end_pass(fixed, passes, gpus, filled.ends, charged, p)
