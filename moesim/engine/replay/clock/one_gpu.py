"""The clock of one GPU whose layers are one launch each, behind copies that wait for nothing but
one another: what goes from layer to layer stays out of memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import host_behind, last_copy, play_launch
from moesim.engine.replay.clock.records import FILLED, FIXED, FLAT, GPUS, MOE, PASSES
from moesim.engine.replay.clock.steps import (
    begin_record,
    compiled_clock,
    dense,
    end_record,
    gate,
    head,
    unpermuted,
    wait_for_counts,
)
from moesim.runtime.compiled import record, types


class Launches(NamedTuple):
    """What is to do of each MoE layer: ``kernel_ns`` int64[MoE layers] of its launch, and how many
    experts are copied for it, ``misses`` uint16[passes, MoE layers].
    """

    kernel_ns: Any
    misses: Any

    @property
    def copies(self) -> int:
        """All copies."""
        return int(self.misses.sum(dtype=int))


LAUNCHES = record(Launches, FLAT, types.uint16[:, ::1])
ONE = 0
"""The GPU."""


@compiled_clock(types.void(FIXED, PASSES, LAUNCHES, GPUS, FILLED))
def play_launches(fixed: Any, passes: Any, launches: Any, gpus: Any, filled: Any) -> None:
    """Play the passes of a chunk."""
    time, host, copied = gpus.time[ONE], gpus.host[ONE], gpus.copied[ONE]
    for p in range(len(passes.runs)):
        charged = filled.charges[p]
        time = host = filled.starts[p, ONE] = max(time, filled.starts[p, ONE])
        for m in range(len(passes.plan)):
            if not passes.runs[p, m]:
                continue
            moe = passes.plan[m, MOE]
            if moe < 0:
                time, host = dense(fixed, passes, p, m, ONE, time, host)
                continue
            begin_record(filled, charged, p, moe, ONE, time)
            ready, free, host, known = gate(fixed, passes, p, m, ONE, time, host)
            ready, free, host, known, cursor = wait_for_counts(
                fixed, passes, charged, p, m, ONE, ready, free, host, known, free
            )
            misses, arrived = int(np.int64(launches.misses[p, moe])), -1
            if misses > 0:
                arrived = copied = last_copy(
                    fixed.blocking, fixed.copy, fixed.copy_ns[moe], misses, known, copied
                )
            time, _ = play_launch(
                charged, ONE, max(ready, free), cursor, arrived, launches.kernel_ns[moe], 0
            )
            host = host_behind(fixed, m, moe, host, known, copied, misses, 1)
            time = unpermuted(passes, p, m, ONE, time)
            end_record(filled, charged, p, moe, ONE, time)
        time = host = filled.ends[p, ONE] = head(fixed, passes, charged, p, ONE, time, host)
    gpus.time[ONE] = gpus.cursor[ONE] = time
    gpus.host[ONE], gpus.copied[ONE] = host, copied
