"""The clock of one GPU whose layers have any launches, whose copies wait for those before them and
for nothing else but one another: what goes from layer to layer stays out of memory.
"""

from __future__ import annotations

from typing import Any

from moesim.engine.case import Case
from moesim.engine.replay.clock.experts import after_victim, copy_start, last_copy, play_launch
from moesim.engine.replay.clock.one_gpu import BROUGHT, ONE, WORK, one_gpu_with
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, PASSES, TABLE, WORKS, Works
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.runtime.compiled import built_in, types

_INT = types.int64


def is_laid(case: Case, works: Works) -> bool:
    """Whether ``play_laid`` plays ``works`` of ``case``: nothing is read from storage or copied
    whole, and all that is copied is for a launch.
    """
    apart = len(works.streamed) == 0 and len(works.reads.steps) == 0
    return case.gpus == 1 and case.senders == 1 and apart and not case.miss.copies_behind


@inlined(WORK(WORKS, _INT, _INT))
def _laid_work(works: Any, p: int, moe: int) -> Any:
    """Copies and launches, which ``_laid`` has played, and what the host does."""
    copies = works.step_copies[moe, p + 1] - works.step_copies[moe, p]
    launches = works.step_launches[moe, p + 1] - works.step_launches[moe, p]
    hosted = works.hosted[moe, p] if len(works.hosted) > 0 else 0
    return copies, launches, 0, 0, hosted, works.up[moe, p] if len(works.up) > 0 else 0


@built_in
def _copy_one(
    fixed: Any, works: Any, gpus: Any, moe: int, known: int, issued: int, copied: int, copy: int
) -> Any:
    """When a copy of a layer ends, behind one that ends at ``copied``."""
    start = copy_start(fixed.blocking, fixed.copy, known, issued, copied)
    start = after_victim(start, works.copy_wait[copy], gpus.launch_end)
    return start + (works.copy_ns[copy] if len(works.copy_ns) > 0 else fixed.copy_ns[moe])


@inlined(BROUGHT(FIXED, WORKS, GPUS, TABLE, *[_INT] * 7))
def _laid(
    fixed: Any, works: Any, gpus: Any, charged: Any, p: int, moe: int, issues: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """The launches of a layer, each behind its own copies. One alone has no launch to wait for."""
    low = works.launch_base[moe] + works.step_launches[moe, p]
    number = works.step_launches[moe, p + 1] - works.step_launches[moe, p]
    copy, issued = works.copy_base[moe] + works.step_copies[moe, p], known
    last, alike = copy + issues, number == 1 and len(works.copy_ns) == 0
    for launch in range(number):
        arrived = -1
        if alike and issues > 0:
            each = fixed.copy_ns[moe]
            arrived = copied = last_copy(fixed.blocking, fixed.copy, each, issues, known, copied)
        while not alike and copy < last and works.copy_launch[copy] == launch:
            issued += fixed.copy
            arrived = copied = _copy_one(fixed, works, gpus, moe, known, issued, copied, copy)
            copy += 1
        read_ns = works.read_ns[low + launch] if len(works.read_ns) > 0 else 0
        time, cursor = play_launch(
            charged, ONE, time, cursor, arrived, works.kernel_ns[low + launch], read_ns
        )
        gpus.launch_end[launch] = time
    return time, cursor, copied, -1, issues


play_laid = compiled_clock(types.void(FIXED, PASSES, WORKS, GPUS, FILLED))(
    one_gpu_with(_laid_work, _laid)
)
"""The clock of works that are decided, of which each ``is_laid``."""
