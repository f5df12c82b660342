"""The clock of one GPU whose layers have to do what follows from how many experts they miss."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.replay.clock.one_gpu import MISSES, WORK, Handled, one_gpu_with
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, PASSES, TABLE
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.runtime.compiled import record, types

HANDLED = record(Handled, MISSES, MISSES, *[TABLE] * 4)


@inlined(WORK(HANDLED, types.int64, types.int64))
def _handled_work(works: Any, p: int, moe: int) -> Any:
    """What a layer has to do, by tables."""
    misses = np.int64(works.misses[p, moe])
    return (
        np.int64(works.loaded[p, moe]),
        works.launches[moe, misses],
        works.kernel_ns[moe, misses],
        works.read_ns[moe, misses],
        works.hosted_ns[moe, misses],
    )


play_handled = compiled_clock(types.void(FIXED, PASSES, HANDLED, GPUS, FILLED))(
    one_gpu_with(_handled_work)
)
"""The clock of layers whose misses are handled otherwise than by loads alone."""
