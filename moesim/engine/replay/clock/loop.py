"""The clock of docs/semantics.md as a recursion over (pass, layer, GPU), compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from moesim.engine.replay.clock.experts import (
    SPAN,
    copy_behind,
    end_experts,
    host_has,
    play_copies,
    play_launch,
    reads_begin,
    stream_first,
    stream_next,
    wait_for_coming,
    wait_for_reads,
    wait_for_whole,
)
from moesim.engine.replay.clock.records import (
    FILLED,
    FIXED,
    GPUS,
    MOE,
    PASSES,
    WORKS,
    Gpus,
    Span,
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
from moesim.runtime.compiled import BUILT_IN, built_in, types


def clock_with(work_of: Any, before: Any, end: Any, *, decides: bool) -> Callable[..., None]:
    """The clock of works that ``work_of`` gives and that ``end`` as ``end_experts`` does, with what
    happens ``before`` the layers of a pass; ``decides``: it decides works then, and copies run
    beside kernels and block no host.
    """

    def play_passes(
        fixed: Any, passes: Any, works: Any, gpus: Any, filled: Any, undecided: Any,
        decide: Any, first_of: Any,
    ) -> None:  # fmt: skip
        """Play the passes of a chunk; from ``undecided`` on it is for ``work_of``."""
        number, streams, reads = len(gpus.time), len(works.streamed) > 0, len(works.read_ns) > 0
        stores = len(works.reads.steps) > 0
        asks = stores and not decides
        for p in range(len(passes.runs)):
            charged = filled.charges[p]
            begin_pass(gpus, filled.starts, p)
            before(fixed, gpus, filled, undecided, decide, first_of, p)
            if streams and fixed.streams_ahead:
                stream_first(fixed, passes, works, gpus, p)
            for m in range(len(passes.plan)):
                if not passes.runs[p, m]:
                    continue
                moe = passes.plan[m, MOE]
                if moe < 0:
                    play_dense(fixed, passes, gpus, p, m)
                    continue
                reach_experts(fixed, passes, gpus, filled, charged, p, m)
                for g in range(number):
                    k = moe * number + g
                    span = work_of(fixed, works, gpus, undecided, decide, first_of, k, p)
                    low, copied, copy, ahead = span.low, gpus.copied[g], span.first, -1
                    begun = reads_begin(fixed, works, gpus, moe, g, k, p) if asks else -1
                    time, cursor = max(gpus.ready[g], gpus.free[g]), gpus.cursor[g]
                    if streams and works.streamed[k, p]:
                        ahead, copy = gpus.coming[g, moe], span.last
                        time, cursor, copied = wait_for_whole(
                            fixed, works, gpus, charged, g, moe, k, p, begun, span, time, cursor
                        )
                    elif gpus.coming[g, moe] >= 0 and span.high > low:
                        time, cursor = wait_for_coming(gpus, charged, g, moe, time, cursor)
                    for launch in range(low, span.high):
                        if stores:
                            time, cursor = wait_for_reads(
                                fixed, works, charged, g, moe, begun, launch, copy, span, time,
                                cursor, decides,
                            )  # fmt: skip
                        copy, copied, arrived = play_copies(
                            fixed, works, gpus, moe, g, begun, launch, copy, copied, span, decides
                        )
                        time, cursor = play_launch(
                            charged, g, time, cursor, arrived, works.kernel_ns[launch],
                            works.read_ns[launch] if reads else 0,
                        )  # fmt: skip
                        gpus.launch_end[launch - low] = time
                    gpus.copied[g] = copy_behind(
                        fixed, gpus, works.reads, begun, g, moe, span, copy, copied
                    )
                    if stores:
                        cursor = host_has(fixed, works, gpus, charged, moe, g, k, p, begun, cursor)
                    if ahead >= 0:
                        gpus.time[g] = time
                        stream_next(fixed, passes, works, gpus, p, g)
                    end(fixed, gpus, charged, undecided, m, g, k, span, time, cursor)
                end_layer(passes, gpus, filled, charged, p, m)
            end_pass(fixed, passes, gpus, filled.ends, charged, p)

    play_passes.__qualname__ = f"play_passes{BUILT_IN}{work_of.__name__}"
    return play_passes


@inlined(SPAN(FIXED, WORKS, GPUS, *[types.int64] * 5))
def decided_work(
    _fixed: Any, works: Any, _gpus: Any, _undecided: int, _decide: int, _first_of: int,
    k: int, p: int,
) -> Any:  # fmt: skip
    """Work ``k`` of pass ``p``, which is decided."""
    first, last = works.step_copies[k, p], works.step_copies[k, p + 1]
    return Span(
        works.launch_base[k] + works.step_launches[k, p],
        works.launch_base[k] + works.step_launches[k, p + 1],
        works.copy_base[k] + first,
        works.copy_base[k] + last,
        last - first,
        works.hosted[k, p] if len(works.hosted) > 0 else 0,
        works.up[k, p] if len(works.up) > 0 else 0,
        works.reads.base[k] + works.reads.steps[k, p] if len(works.reads.ends) > 0 else 0,
    )


@inlined(types.void(FIXED, GPUS, FILLED, *[types.int64] * 4))
def nothing_before(
    _fixed: Any, _gpus: Any, _filled: Any, _undecided: int, _decide: int, _first_of: int, p: int
) -> None:
    """Nothing is loaded before a pass."""


@built_in
def end_decided(
    fixed: Any, gpus: Any, charged: Any, _undecided: Any, m: int, g: int, k: int, span: Any,
    time: int, cursor: int,
) -> None:  # fmt: skip
    """Nothing is copied but what work ``k`` asked for."""
    end_experts(fixed, gpus, charged, m, g, k, span, time, cursor)


play_decided = compiled_clock(types.void(FIXED, PASSES, WORKS, GPUS, FILLED, *[types.int64] * 3))(
    clock_with(decided_work, nothing_before, end_decided, decides=False)
)
"""The clock of works that are decided beforehand."""


def new_gpus(gpus: int, layers: int, nodes: int, rooms: int = 0) -> Gpus:
    """The clocks before the first pass."""
    flat = [np.zeros(gpus, np.int64) for _ in range(8)]
    rest: list[Any] = [np.full((gpus, layers), -1), np.zeros(0, np.int64)]
    rest.append(np.zeros(nodes, np.int64))
    rest += [np.full((gpus, layers), -1), np.zeros((gpus, rooms), np.int64)]
    rest += [np.zeros(size, np.int64) for size in (gpus, gpus, 2)]
    return Gpus(*flat, *rest)
