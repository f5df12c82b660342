"""The clock of one GPU whose layers are one launch each, or none, behind copies that wait for
nothing but one another, or for their reads: what goes from layer to layer stays out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import (
    alike_read_end,
    copy_start,
    host_behind,
    last_copy,
    play_launch,
    rows_up,
    turn_to,
)
from moesim.engine.replay.clock.records import (
    CPU,
    FILLED,
    FIXED,
    GPUS,
    MOE,
    PASSES,
    STORAGE,
    TABLE,
)
from moesim.engine.replay.clock.steps import (
    begin_record,
    charge,
    compiled_clock,
    dense,
    end_record,
    gate,
    head,
    inlined,
    unpermuted,
    wait_for_counts,
)
from moesim.runtime.compiled import BUILT_IN, built_in, record, types
from moesim.runtime.words import ones_of


class OneLaunch(NamedTuple):
    """What is to do of each MoE layer: how many experts it ``misses``, how many of them are
    ``loaded`` and which of these, in ascending order, ``read`` from storage, a bit each,
    uint16[passes, MoE layers]; and by how many miss (or in one column, where that is alike) how
    many ``launches`` it has, 0 or 1, the ``kernel_ns`` of that, what it reads over the link beyond
    that, ``read_ns``, how long the host computes, ``hosted_ns``, and the copy of its rows up
    takes, ``up_ns``; and what its rows take ``before`` and ``behind`` all that, int64[MoE layers,
    columns]. What a clock does not ask for has no elements.
    """

    misses: Any
    loaded: Any
    read: Any
    launches: Any
    kernel_ns: Any
    read_ns: Any
    hosted_ns: Any
    up_ns: Any
    before_ns: Any
    behind_ns: Any


class Launched(NamedTuple):
    """``works`` that a ``clock`` plays, with all their ``copies``, where it does not count them."""

    clock: Any
    works: Any
    copies: int


_INT = types.int64
MISSES = types.uint16[:, ::1]
ONE_LAUNCH = record(OneLaunch, *[MISSES] * 3, *[TABLE] * 7)
_TUPLE: Any = types.UniTuple
BROUGHT = _TUPLE(_INT, 5)
"""The time and cursor of a GPU, when its copy engine is free, and when a launch's copies are there,
-1 without one; and how many copies the host issues.
"""
WORK = _TUPLE(_INT, 6)
"""Copies, launches, and the times of a kernel, of what it reads over the link, of the host, and of
its rows up, where these are a copy of the engine.
"""
_BRING = BROUGHT(FIXED, ONE_LAUNCH, GPUS, TABLE, *[_INT] * 7)
ONE = 0
"""The GPU."""


@inlined(WORK(ONE_LAUNCH, _INT, _INT))
def _loaded_work(works: Any, p: int, moe: int) -> Any:
    """What a layer has to do whose misses are loaded."""
    return np.int64(works.misses[p, moe]), 1, works.kernel_ns[moe, 0], 0, 0, 0


@inlined(WORK(ONE_LAUNCH, _INT, _INT))
def _handled_work(works: Any, p: int, moe: int) -> Any:
    """What follows from how many miss."""
    misses = np.int64(works.misses[p, moe])
    return (
        np.int64(works.loaded[p, moe]),
        works.launches[moe, misses],
        works.kernel_ns[moe, misses],
        works.read_ns[moe, misses],
        works.hosted_ns[moe, misses],
        works.up_ns[moe, misses],
    )


@inlined(WORK(ONE_LAUNCH, _INT, _INT))
def _fewer_work(works: Any, p: int, moe: int) -> Any:
    """The same, where all misses are loaded."""
    misses = np.int64(works.misses[p, moe])
    launches, kernel_ns = works.launches[moe, misses], works.kernel_ns[moe, misses]
    return np.int64(works.loaded[p, moe]), launches, kernel_ns, 0, 0, 0


@built_in
def _no_rows(_works: Any, _p: int, _moe: int) -> tuple[int, int]:
    """What rows take is in the terms of passes."""
    return 0, 0


@inlined(_TUPLE(_INT, 2)(ONE_LAUNCH, _INT, _INT))
def _rows_apart(works: Any, p: int, moe: int) -> Any:
    """What a layer's rows take before its counts are known and behind its experts."""
    misses = np.int64(works.misses[p, moe])
    return works.before_ns[moe, misses], works.behind_ns[moe, misses]


@inlined(_BRING)
def _from_host(
    fixed: Any, _works: Any, _gpus: Any, _charged: Any, _p: int, moe: int, copies: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """Copies wait for one another alone."""
    if copies == 0:
        return time, cursor, copied, -1, copies
    each_ns = fixed.copy_ns[moe]
    copied = last_copy(fixed.blocking, fixed.copy, each_ns, copies, known, copied)
    return time, cursor, copied, copied, copies


@inlined(_BRING)
def _from_storage(
    fixed: Any, works: Any, gpus: Any, charged: Any, p: int, moe: int, copies: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """The drive turns to what a layer reads when its counts are ``known``; its launch waits for
    that, and each copy for its own read.
    """
    mask, arrived, read = int(np.int64(works.read[p, moe])), -1, 0
    if mask == 0:
        return _from_host(fixed, works, gpus, charged, p, moe, copies, known, copied, time, cursor)
    number = int(np.int64(ones_of(np.uint64(mask))))
    begun = turn_to(fixed, gpus, ONE, known, number * fixed.read_busy[moe])
    there = alike_read_end(fixed, moe, begun, number - 1)
    time, cursor = max(time, there), charge(charged, ONE, STORAGE, cursor, there)
    for copy in range(copies):
        issued = known + (copy + 1) * fixed.copy
        start = copy_start(fixed.blocking, fixed.copy, known, issued, copied)
        if (mask >> copy) & 1 > 0:
            start = max(start, alike_read_end(fixed, moe, begun, read) - fixed.read_lead[moe])
            read += 1
        arrived = copied = start + fixed.copy_ns[moe]
    return time, cursor, copied, arrived, copies


def one_gpu_with(work_of: Any, bring: Any, rows_of: Any = _no_rows) -> Callable[..., None]:
    """The clock of works that ``work_of`` gives, whose copies come as ``bring`` says, and whose
    rows take what ``rows_of`` says beside the terms of passes.
    """

    def play_one_gpu(fixed: Any, passes: Any, works: Any, gpus: Any, filled: Any) -> None:
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
                before_ns, behind_ns = rows_of(works, p, moe)
                ready, free, host, known = gate(fixed, passes, p, m, ONE, time + before_ns, host)
                ready, free, host, known, cursor = wait_for_counts(
                    fixed, passes, charged, p, m, ONE, ready, free, host, known, free
                )
                copies, launches, kernel_ns, read_ns, hosted_ns, up_ns = work_of(works, p, moe)
                time, cursor, copied, arrived, issues = bring(
                    fixed, works, gpus, charged, p, moe, copies, known, copied, max(ready, free),
                    cursor,
                )  # fmt: skip
                if launches > 0:
                    time, cursor = play_launch(
                        charged, ONE, time, cursor, arrived, kernel_ns, read_ns
                    )
                host = host_behind(fixed, m, moe, host, known, copied, issues, launches)
                if hosted_ns > 0:
                    there, copied = rows_up(copied, ready + hosted_ns, up_ns)
                    time = max(time, there)
                    charge(charged, ONE, CPU, cursor, time)
                time = unpermuted(passes, p, m, ONE, time + behind_ns)
                end_record(filled, charged, p, moe, ONE, time)
            time = host = filled.ends[p, ONE] = head(fixed, passes, charged, p, ONE, time, host)
        gpus.time[ONE] = gpus.cursor[ONE] = time
        gpus.host[ONE], gpus.copied[ONE] = host, copied

    names = f"{work_of.__name__}{bring.__name__}{rows_of.__name__}"
    play_one_gpu.__qualname__ = f"play_one_gpu{BUILT_IN}{names}"
    return play_one_gpu


_CLOCK = types.void(FIXED, PASSES, ONE_LAUNCH, GPUS, FILLED)
play_loaded = compiled_clock(_CLOCK)(one_gpu_with(_loaded_work, _from_host))
"""The clock of layers whose misses are loaded."""
play_handled = compiled_clock(_CLOCK)(one_gpu_with(_handled_work, _from_host))
"""Of layers that have to do what follows from how many they miss."""
play_fewer = compiled_clock(_CLOCK)(one_gpu_with(_fewer_work, _from_host, _rows_apart))
"""Of layers whose misses are loaded, and that need different numbers of experts."""
play_stored = compiled_clock(_CLOCK)(one_gpu_with(_loaded_work, _from_storage))
"""Of layers whose misses are loaded, some from storage."""
