"""The clock of one GPU whose layers are one launch each, behind copies of which some wait for their
reads from storage.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.replay.clock.experts import alike_read_end, copy_start, turn_to
from moesim.engine.replay.clock.one_gpu import BROUGHT, MISSES, ONE, Stored, one_gpu_with
from moesim.engine.replay.clock.records import FILLED, FIXED, FLAT, GPUS, PASSES, STORAGE, TABLE
from moesim.engine.replay.clock.steps import charge, compiled_clock, inlined
from moesim.runtime.compiled import record, types

_INT = types.int64
_TUPLE: Any = types.UniTuple
STORED = record(Stored, FLAT, MISSES, MISSES)


@inlined(_TUPLE(_INT, 5)(STORED, _INT, _INT))
def _stored_work(works: Any, p: int, moe: int) -> Any:
    """What a layer has to do, beside its reads."""
    return np.int64(works.misses[p, moe]), 1, works.kernel_ns[moe], 0, 0


@inlined(BROUGHT(FIXED, STORED, GPUS, TABLE, *[_INT] * 7))
def _read_and_copied(
    fixed: Any, works: Any, gpus: Any, charged: Any, p: int, moe: int, copies: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """The drive turns to what a layer reads when its counts are ``known``; its launch waits for
    that, and each copy for its own read.
    """
    mask, number, arrived = int(np.int64(works.reads[p, moe])), 0, -1
    for copy in range(copies):
        number += (mask >> copy) & 1
    begun = turn_to(fixed, gpus, ONE, known, number * fixed.read_busy[moe])
    if number > 0:
        there = alike_read_end(fixed, moe, begun, number - 1)
        time, cursor = max(time, there), charge(charged, ONE, STORAGE, cursor, there)
    read = 0
    for copy in range(copies):
        issued = known + (copy + 1) * fixed.copy
        start = copy_start(fixed.blocking, fixed.copy, known, issued, copied)
        if (mask >> copy) & 1 > 0:
            start = max(start, alike_read_end(fixed, moe, begun, read) - fixed.read_lead[moe])
            read += 1
        arrived = copied = start + fixed.copy_ns[moe]
    return time, cursor, copied, arrived


play_stored = compiled_clock(types.void(FIXED, PASSES, STORED, GPUS, FILLED))(
    one_gpu_with(_stored_work, _read_and_copied)
)
"""The clock of layers whose misses are loaded, some from storage."""
