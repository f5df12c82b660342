"""The clock of one GPU whose layers have to do what follows from how many experts they miss."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.replay.clock.one_gpu import (
    BROUGHT,
    MISSES,
    WORK,
    Handled,
    load_copies,
    one_gpu_with,
)
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


@inlined(BROUGHT(FIXED, HANDLED, GPUS, TABLE, *[types.int64] * 7))
def _loaded(
    fixed: Any, _works: Any, _gpus: Any, _charged: Any, _p: int, moe: int, copies: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """Those that are loaded come from host memory."""
    copied, arrived = load_copies(fixed, moe, copies, known, copied)
    return time, cursor, copied, arrived


play_handled = compiled_clock(types.void(FIXED, PASSES, HANDLED, GPUS, FILLED))(
    one_gpu_with(_handled_work, _loaded)
)
"""The clock of layers whose misses are handled otherwise than by loads alone."""
