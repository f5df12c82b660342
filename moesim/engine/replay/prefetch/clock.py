"""The clock where prefetches make decisions depend on it, compiled: each layer is decided on each
GPU when its counts are known.
"""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.experts import SPAN
from moesim.engine.replay.clock.loop import clock_with
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, PASSES, WORKS, Span
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.engine.replay.prefetch.activations import (
    all_hit,
    decide_activations,
    end_prefetches,
    note_served,
    read_active_experts,
    serve_activations,
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
    SERIAL,
    At,
)
from moesim.engine.replay.prefetch.before import load_before
from moesim.engine.replay.prefetch.issue import prefetch
from moesim.engine.replay.prefetch.queue import advance
from moesim.engine.replay.prefetch.storage import advance_reads, read_ahead, read_wanted
from moesim.engine.replay.prefetch.types import UNDECIDED
from moesim.engine.replay.prefetch.work import price_work, queue_copies
from moesim.memory.decisions import DECIDE_IN, FIRST
from moesim.runtime.compiled import types

_FUNCTIONS = (types.FunctionType(DECIDE_IN), types.FunctionType(FIRST))


@inlined(SPAN(FIXED, WORKS, GPUS, UNDECIDED, *_FUNCTIONS, types.int64, types.int64))
def _decide_work(
    fixed: Any, works: Any, gpus: Any, undecided: Any, decide: Any, first_of: Any, k: int, p: int
) -> Any:
    """Decide work ``k`` of pass ``p``: its launches and copies are the first of ``works``."""
    one, g, number = undecided, k % len(gpus.time), len(gpus.time)
    at = At(k, number, one.local[g], p, one.first + p, gpus.known[g], fixed.copy)
    engine = one.queue.engine
    engine[g, FREE] = gpus.copied[g]
    stores = len(one.stored.there) > 0
    if stores:
        advance_reads(fixed, one, at, gpus, g, at.now)
    advance(one.queue, one.variants.ahead_ns, one.beside.bytes, at.local, g, at.now)
    read_active_experts(one.asked, one.activating, k, p)
    if one.pools.of_work[k] == NOT_POOLED:
        all_hit(one.activating, one.choices[SERIAL] != 0)
    else:
        end_prefetches(one, at)
        if len(one.variants.taken) > 1:
            serve_activations(one, at)
        else:
            decide_activations(one, decide, at)
    note_served(one, at)
    counts = one.counts[p, k // number, g]
    queue_copies(one, at, counts)
    if stores:
        read_wanted(fixed, gpus, one, at, counts)
    price_work(one, k // number, counts)
    issues = one.decided.told[LOADS]
    if one.choices[EVERY] == 0:
        issues = prefetch(one, first_of, at)
        if stores:
            read_ahead(fixed, one, at, issues - one.decided.told[LOADS])
    if stores:
        works.reads.host[0, 0] = one.decided.told[HOST_THERE]
    gpus.copied[g], told = engine[g, FREE], one.decided.told
    return Span(0, told[LAUNCHES], 0, told[COPIES], issues, told[HOSTED_NS], 0)


play_deciding = compiled_clock(
    types.void(FIXED, PASSES, WORKS, GPUS, FILLED, UNDECIDED, *_FUNCTIONS)
)(clock_with(_decide_work, load_before, decides=True))
"""The clock of works that are decided on it."""
