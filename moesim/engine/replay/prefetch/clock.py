"""The clock where prefetches make decisions depend on it, compiled: each layer is decided on each
GPU when its counts are known.
"""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.experts import SPAN, end_experts
from moesim.engine.replay.clock.loop import clock_with
from moesim.engine.replay.clock.paced import begin_at
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, PASSES, WORKS, Span
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.engine.replay.prefetch.activations import (
    all_hit,
    decide_activations,
    end_prefetches,
    note_served,
    read_active_experts,
)
from moesim.engine.replay.prefetch.arrays import (
    COPIES,
    EVERY,
    FREE,
    HOST_THERE,
    HOSTED_NS,
    LAUNCHES,
    LOADS,
    NOT_POOLED,
    UP_NS,
    At,
)
from moesim.engine.replay.prefetch.before import load_before
from moesim.engine.replay.prefetch.issue import prefetch
from moesim.engine.replay.prefetch.queue import advance
from moesim.engine.replay.prefetch.storage import advance_reads, read_ahead, read_wanted
from moesim.engine.replay.prefetch.types import AT, DECIDE, UNDECIDED
from moesim.engine.replay.prefetch.work import price_work, queue_copies
from moesim.memory.slots.decisions import FIRST
from moesim.runtime.compiled import built_in, types

_FUNCTIONS = (DECIDE, types.FunctionType(FIRST))


@inlined(AT(FIXED, GPUS, UNDECIDED, types.int64, types.int64))
def _at(fixed: Any, gpus: Any, undecided: Any, k: int, p: int) -> Any:
    """Where and when work ``k`` of pass ``p`` is decided."""
    number, step, pools = len(gpus.time), undecided.first + p, undecided.pools
    layer, g = k, 0
    if number > 1:
        layer, g = k // number, k % number
    low = undecided.asked.base[k] + undecided.asked.offsets[k, p]
    until = step * undecided.predicted.active.shape[1] + layer + 1
    return At(
        k, layer, g, undecided.local[g], pools.place[k], pools.of_work[k], p, step, low, until,
        gpus.known[g], fixed.copy,
    )  # fmt: skip


@inlined(SPAN(FIXED, WORKS, GPUS, UNDECIDED, *_FUNCTIONS, types.int64, types.int64))
def _decide_work(
    fixed: Any, works: Any, gpus: Any, undecided: Any, decide: Any, first_of: Any, k: int, p: int
) -> Any:
    """Decide work ``k`` of pass ``p``: its launches and copies are the first of ``works``."""
    one, at = undecided, _at(fixed, gpus, undecided, k, p)
    g, engine, told = at.gpu, one.queue.engine, one.decided.told
    engine[g, FREE] = gpus.copied[g]
    stores = len(one.stored.there) > 0
    if stores:
        advance_reads(fixed, one, gpus, g, at.now)
    advance(one.queue, g, at.now)
    read_active_experts(one, at, one.asked.offsets[k, p + 1] - one.asked.offsets[k, p])
    if at.pool == NOT_POOLED:
        all_hit(one)
    else:
        end_prefetches(one, at)
        decide_activations(one, decide, at)
    note_served(one, at)
    row = at.layer if one.counts.shape[1] > 1 else 0
    counts = one.counts[p, row, g]
    queue_copies(one, at, counts)
    if stores:
        read_wanted(fixed, gpus, one, at, counts)
    price_work(one, at, counts)
    issues = told[LOADS]
    if one.choices[EVERY] == 0:
        issues = prefetch(one, first_of, at)
        if stores:
            read_ahead(fixed, one, at, issues - told[LOADS])
    if stores:
        works.reads.host[0, 0] = told[HOST_THERE]
    gpus.copied[g] = engine[g, FREE]
    return Span(0, told[LAUNCHES], 0, told[COPIES], issues, told[HOSTED_NS], told[UP_NS], 0)


@built_in
def _end_work(
    fixed: Any, gpus: Any, charged: Any, undecided: Any, m: int, g: int, k: int, span: Any,
    time: int, cursor: int,
) -> None:  # fmt: skip
    """Prefetches that could begin before rows of the host come up have."""
    one, engine = undecided, undecided.queue.engine
    if span.up_ns > 0 and one.choices[EVERY] == 0:
        since = gpus.ready[g] + span.hosted_ns
        engine[g, FREE] = gpus.copied[g]
        if len(one.stored.there) > 0:
            advance_reads(fixed, one, gpus, g, since)
        advance(one.queue, g, since)
        gpus.copied[g] = engine[g, FREE]
    end_experts(fixed, gpus, charged, m, g, k, span, time, cursor)


@inlined(types.void(FIXED, GPUS, FILLED, UNDECIDED, *_FUNCTIONS, types.int64))
def _begin(
    fixed: Any, gpus: Any, filled: Any, undecided: Any, decide: Any, first_of: Any, p: int
) -> None:
    """Pass ``p`` begins by the pace, if there is one, the policy anew where it does, and what is
    loaded before the pass comes.
    """
    one = undecided
    if one.step >= 0:
        begin_at(gpus, filled, one.pace, one.step, one.lag, p)
    if one.restarts[p]:
        one.restart(one.first + p)
    load_before(fixed, gpus, filled, undecided, decide, first_of, p)


play_deciding = compiled_clock(
    types.void(FIXED, PASSES, WORKS, GPUS, FILLED, UNDECIDED, *_FUNCTIONS)
)(clock_with(_decide_work, _begin, _end_work, decides=True))
"""The clock of works that are decided on it."""
