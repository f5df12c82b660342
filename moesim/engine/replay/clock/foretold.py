"""The clock of one GPU whose layers are one launch each, of experts that are prefetched one layer
ahead by predictions that are always right: what waits when its layer is reached is needed there, so
that no copy is cancelled, and whose it is does not matter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.one_gpu import BROUGHT, MISSES, WORK, one_gpu_with
from moesim.engine.replay.clock.records import FILLED, FIXED, FLAT, GPUS, PASSES, TABLE
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.runtime.compiled import record, types


class Foretold(NamedTuple):
    """How many experts each layer ``misses``, uint16[passes + 1, MoE layers]: of the pass behind,
    if there is one, the first layer; and what its launch takes, ``kernel_ns`` int64[MoE layers].
    When the prefetches of a layer were ``asked`` for, but for what each takes of the host,
    int64[MoE layers], -1: they were not. Filled in is how many were ``late``, and how many of these
    were still waiting, ``taken``; and how many were ``demanded``, which nobody had asked for,
    uint16[passes, MoE layers].
    """

    misses: Any
    kernel_ns: Any
    asked: Any
    late: Any
    taken: Any
    demanded: Any


FORETOLD = record(Foretold, MISSES, FLAT, FLAT, MISSES, MISSES, MISSES)


@inlined(WORK(FORETOLD, types.int64, types.int64))
def _foretold_work(works: Any, p: int, moe: int) -> Any:
    """What a layer has to do."""
    return np.int64(works.misses[p, moe]), 1, works.kernel_ns[moe], 0, 0, 0


@inlined(BROUGHT(FIXED, FORETOLD, GPUS, TABLE, *[types.int64] * 7))
def _ahead(
    fixed: Any, works: Any, _gpus: Any, _charged: Any, p: int, moe: int, misses: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """The prefetches of a layer that could begin before it is ``known`` have; the others become its
    own copies. Those of the next layer are asked for, and issued by the host behind its own copies.
    """
    each, asked, behind = fixed.copy_ns[moe], works.asked[moe], moe + 1 == len(works.asked)
    begun, there = 0, -1
    while asked >= 0 and begun < misses:
        start = max(copied, asked + (begun + 1) * fixed.copy)
        if start >= known:
            break
        copied = there = start + each
        begun += 1
    late = misses - begun
    since = asked + begun * fixed.copy if asked >= 0 else known
    arrived = there if there > known else -1
    for copy in range(late):
        issued = max(since + (copy + 1) * fixed.copy, known)
        arrived = copied = max(issued, copied) + each
    demanded = late if asked < 0 else 0
    works.taken[p, moe], works.demanded[p, moe] = late - demanded, demanded
    works.late[p, moe] = works.taken[p, moe] + (there > known)
    works.asked[0 if behind else moe + 1] = known + demanded * fixed.copy
    issues = demanded + np.int64(works.misses[p + behind, 0 if behind else moe + 1])
    return time, cursor, copied, arrived, issues


play_foretold = compiled_clock(types.void(FIXED, PASSES, FORETOLD, GPUS, FILLED))(
    one_gpu_with(_foretold_work, _ahead)
)
"""The clock of layers whose misses are foretold."""
