"""The clock of one GPU whose layers are one launch each, or none, behind copies that wait for
nothing but one another: what goes from layer to layer stays out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.experts import host_behind, last_copy, play_launch
from moesim.engine.replay.clock.records import CPU, FILLED, FIXED, FLAT, GPUS, MOE, PASSES, TABLE
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
from moesim.runtime.compiled import BUILT_IN, record, types


class Launches(NamedTuple):
    """What is to do of each MoE layer: ``kernel_ns`` int64[MoE layers] of its launch, and how many
    experts are copied for it, ``misses`` uint16[passes, MoE layers], all ``copies`` of them.
    """

    kernel_ns: Any
    misses: Any
    copies: Any


class Handled(NamedTuple):
    """How many experts each MoE layer ``misses``, and how many of them are ``loaded``,
    uint16[passes, MoE layers]; and by its misses how many ``launches`` it has, 0 or 1, the
    ``kernel_ns`` of that, what it reads over the link beyond that, ``read_ns``, and how long the
    host computes, ``hosted_ns``, int64[MoE layers, misses].
    """

    misses: Any
    loaded: Any
    launches: Any
    kernel_ns: Any
    read_ns: Any
    hosted_ns: Any

    @property
    def copies(self) -> int:
        """All copies."""
        return int(self.loaded.sum(dtype=int))


class Stored(NamedTuple):
    """As ``Launches``, and which of a layer's misses are ``reads`` from storage, a bit each, in
    ascending order, uint16[passes, MoE layers].
    """

    kernel_ns: Any
    misses: Any
    reads: Any

    @property
    def copies(self) -> int:
        """All copies."""
        return int(self.misses.sum(dtype=int))


OneGpu = Launches | Handled | Stored
"""What there is to do of a run of passes of one GPU."""
_INT = types.int64
MISSES = types.uint16[:, ::1]
LAUNCHES = record(Launches, FLAT, MISSES, _INT)
_TUPLE: Any = types.UniTuple
BROUGHT = _TUPLE(_INT, 4)
"""The time and cursor of a GPU, when its copy engine is free, and when a launch's copies are there,
-1 without one.
"""
WORK = _TUPLE(_INT, 5)
"""Copies, launches, and the times of a kernel, of what it reads over the link, and of the host."""
ONE = 0
"""The GPU."""


@inlined(WORK(LAUNCHES, _INT, _INT))
def loaded_work(works: Any, p: int, moe: int) -> tuple[int, int, int, int, int]:
    """What a layer has to do whose misses are loaded."""
    return int(np.int64(works.misses[p, moe])), 1, int(works.kernel_ns[moe]), 0, 0


@inlined(_TUPLE(_INT, 2)(FIXED, *[_INT] * 4))
def load_copies(fixed: Any, moe: int, copies: int, known: int, copied: int) -> tuple[int, int]:
    """So many ``copies``, which wait for one another alone: when the copy engine is free then, and
    when they are there, -1 without one.
    """
    if copies == 0:
        return copied, -1
    each_ns = fixed.copy_ns[moe]
    copied = last_copy(fixed.blocking, fixed.copy, each_ns, copies, known, copied)
    return copied, copied


@inlined(BROUGHT(FIXED, LAUNCHES, GPUS, TABLE, *[_INT] * 7))
def _loaded(
    fixed: Any, _works: Any, _gpus: Any, _charged: Any, _p: int, moe: int, copies: int, known: int,
    copied: int, time: int, cursor: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Misses come from host memory."""
    copied, arrived = load_copies(fixed, moe, copies, known, copied)
    return time, cursor, copied, arrived


def one_gpu_with(work_of: Any, bring: Any) -> Callable[..., None]:
    """The clock of works that ``work_of`` gives, whose copies come as ``bring`` says."""

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
                ready, free, host, known = gate(fixed, passes, p, m, ONE, time, host)
                ready, free, host, known, cursor = wait_for_counts(
                    fixed, passes, charged, p, m, ONE, ready, free, host, known, free
                )
                copies, launches, kernel_ns, read_ns, hosted_ns = work_of(works, p, moe)
                time, cursor, copied, arrived = bring(
                    fixed, works, gpus, charged, p, moe, copies, known, copied, max(ready, free),
                    cursor,
                )  # fmt: skip
                if launches > 0:
                    time, cursor = play_launch(
                        charged, ONE, time, cursor, arrived, kernel_ns, read_ns
                    )
                if hosted_ns > 0:
                    time = max(time, ready + hosted_ns)
                    charge(charged, ONE, CPU, cursor, time)
                host = host_behind(fixed, m, moe, host, known, copied, copies, launches)
                time = unpermuted(passes, p, m, ONE, time)
                end_record(filled, charged, p, moe, ONE, time)
            time = host = filled.ends[p, ONE] = head(fixed, passes, charged, p, ONE, time, host)
        gpus.time[ONE] = gpus.cursor[ONE] = time
        gpus.host[ONE], gpus.copied[ONE] = host, copied

    play_one_gpu.__qualname__ = f"play_one_gpu{BUILT_IN}{work_of.__name__}"
    return play_one_gpu


play_launches = compiled_clock(types.void(FIXED, PASSES, LAUNCHES, GPUS, FILLED))(
    one_gpu_with(loaded_work, _loaded)
)
"""The clock of layers whose misses are loaded."""
