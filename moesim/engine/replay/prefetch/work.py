"""What one MoE layer on one GPU has to do, from its activations: copies, launches, experts of the
host; compiled.
"""

from __future__ import annotations

from typing import Any

from moesim.engine.counts import (
    ACCESS_HITS,
    ACTIVATIONS,
    CANCELLED,
    CAUSED,
    HITS,
    KEPT_ROWS,
    LATE,
    MISSED,
    READS_USED,
    ROWS,
    SKIPPED_ROWS,
    SKIPPED_WEIGHT,
    STARTED,
    TAKEN_OVER,
    USED,
)
from moesim.engine.layout import BLOCK_ROWS, IN_SLOT, ON_GPU, ON_HOST, OVER_LINK
from moesim.engine.replay.clock.steps import inlined
from moesim.engine.replay.prefetch.arrays import (
    BEGUN,
    COPIES,
    EVERY,
    HOSTED_NS,
    LAUNCHES,
    LOADS,
    MEANT,
    NOT_POOLED,
    OVERLAPS,
    PADS,
    PROMOTED,
    PROMOTED_NOW,
    WAITING,
)
from moesim.engine.replay.prefetch.prices import price_of
from moesim.engine.replay.prefetch.queue import leave
from moesim.engine.replay.prefetch.storage import lose
from moesim.engine.replay.prefetch.types import AT, DECIDED, QUEUE, STORED, UNDECIDED
from moesim.runtime.compiled import types

_FLAT = types.int64[::1]


@inlined(types.boolean(QUEUE, types.int64, types.int64, types.int64, types.boolean))
def _uses(queue: Any, gpu: int, expert: int, meant: int, before: bool) -> bool:
    """Whether a hit in the layer that ``meant`` stands for uses a prefetch; those made ``before``
    passes may be used in a later pass than their own, and count once.
    """
    if before:
        found = queue.meant[gpu, expert] > 0
        queue.meant[gpu, expert] = 0
        return bool(found)
    return bool(queue.meant[gpu, expert] == meant)


@inlined(types.boolean(STORED, types.int64, types.int64))
def _was_read(stored: Any, gpu: int, expert: int) -> bool:
    """Whether the prefetch of ``expert`` was read from storage."""
    return len(stored.ahead) > 0 and bool(stored.ahead[gpu, expert])


@inlined(types.int64(DECIDED, types.int64, types.int64))
def _next_copy(decided: Any, copy: int, expert: int) -> int:
    """``copy`` brings ``expert``; the copy behind it."""
    decided.copy_expert[copy] = expert
    return copy + 1


@inlined(types.void(UNDECIDED, AT, _FLAT))
def queue_copies(undecided: Any, at: Any, counts: Any) -> None:
    """The demand copies of the activations, promoted ones among them; follows evictions. ``counts``
    int64[COUNTED and forms] of this layer, pass and GPU.
    """
    pools, queue, activating = undecided.pools, undecided.queue, undecided.activating
    decided, sizes, work, now = undecided.decided, undecided.beside.bytes, at.work, at.now
    local, step, to_copy = at.local, at.step, at.copy
    layer, gpu = work // at.gpus, work % at.gpus
    layers, flat, copies, loads, launches = queue.ended.shape[1], layer * local, 0, 0, 0
    pooled = pools.of_work[work] != NOT_POOLED
    pool_first = (layer - pools.place[work]) * local
    meant, parity = step * layers + layer + 1, step % queue.ended.shape[2]
    late = used = caused = read = 0
    before, overlaps = undecided.choices[EVERY] > 0, undecided.choices[OVERLAPS] != 0
    for i in range(activating.offsets[1]):
        e, hit, launch = activating.expert[i], activating.hit[i], activating.launch[i]
        x = flat + e
        while launches <= launch:
            decided.there[launches] = -1
            launches += 1
        if hit and pooled:
            uses = _uses(queue, gpu, x, meant, before)
            used, read = used + uses, read + (uses and _was_read(undecided.stored, gpu, x))
            if activating.arriving[e]:
                late += 1
                if queue.arrival[gpu, x] == WAITING:
                    leave(queue, gpu, x, sizes[layer])
                    decided.copy_launch[copies], decided.copy_wait[copies] = launch, -1
                    decided.copy_issued[copies] = max(queue.issued[gpu, x], now)
                    copies = _next_copy(decided, copies, e)
                    queue.arrival[gpu, x] = 0
                    queue.ended[gpu, layer, parity, PROMOTED] += 1
                else:
                    decided.there[launch] = max(decided.there[launch], queue.arrival[gpu, x])
        elif not hit:
            caused += queue.caused[gpu, x]
        if pooled and activating.victim[i] >= 0:
            victim = pool_first + activating.victim[i]
            queue.caused[gpu, victim] = False
            lose(undecided, at, gpu, victim)
        if not hit and activating.forms[IN_SLOT, activating.form[i]]:
            loads += 1
            wait = activating.wait[i] if overlaps else max(activating.wait[i], launch - 1)
            decided.copy_launch[copies], decided.copy_wait[copies] = launch, wait
            decided.copy_issued[copies] = now + loads * to_copy
            copies = _next_copy(decided, copies, e)
    decided.told[LAUNCHES], decided.told[COPIES], decided.told[LOADS] = launches, copies, loads
    ended = queue.ended[gpu, layer, parity]
    counts[LATE], counts[USED], counts[READS_USED] = late, used, read
    counts[CAUSED], counts[TAKEN_OVER] = caused, ended[PROMOTED]
    counts[STARTED] = ended[BEGUN] + ended[PROMOTED]
    counts[CANCELLED] = ended[MEANT] - counts[STARTED]
    decided.told[PROMOTED_NOW] = ended[PROMOTED]
    ended[MEANT] = ended[BEGUN] = ended[PROMOTED] = 0


@inlined(types.void(UNDECIDED, types.int64, _FLAT))
def price_work(undecided: Any, layer: int, counts: Any) -> None:
    """Prices of the activations' launches and of the host's experts; counts the activations."""
    known, beside, ask = undecided.patterns, undecided.beside, undecided.ask
    activating, decided = undecided.activating, undecided.decided
    kind, number = beside.kinds[layer], activating.offsets[1]
    pads = undecided.choices[PADS] != 0
    hosted_ns = hosted_rows = hosted = linked = hits = access_hits = rows = kept = 0
    length, launch, forms = 1, 0, activating.forms
    skipped = skipped_weight = 0
    known.asked[0] = kind
    for i in range(number + 1):
        if i == number or activating.launch[i] > launch:
            if length > 1:
                price = price_of(ask, known, length)
                decided.kernel_ns[launch], decided.read_ns[launch] = price, 0
                if linked > 0:
                    decided.read_ns[launch] = max(beside.link_ns[kind, linked] - price, 0)
                    beside.link_uses[kind, linked] += 1
            length, linked = 1, 0
        if i == number:
            break
        e, form = activating.expert[i], activating.form[i]
        own, used = activating.own[e], activating.kept[e]
        kept += used
        hit = activating.hit[i] and not activating.arriving[e]
        hits += hit
        counts[MISSED + form] += not activating.hit[i]
        access_hits += used * hit
        if forms[ON_HOST, form]:
            hosted_ns += beside.cpu_ns[kind, own]
            beside.cpu_uses[kind, own] += 1
            hosted_rows += own
            hosted += 1
        elif forms[ON_GPU, form]:
            launch = activating.launch[i]
            if pads:
                own = -(-own // BLOCK_ROWS) * BLOCK_ROWS
            known.asked[length] = own
            length += 1
            linked += forms[OVER_LINK, form]
        else:
            skipped += used
            skipped_weight += activating.kept_weight[e]
            own = 0
        rows += own
    if hosted > 0:
        hosted_ns += beside.moved_ns[hosted_rows]
    decided.told[HOSTED_NS] = hosted_ns
    counts[ACTIVATIONS], counts[HITS], counts[ROWS], counts[KEPT_ROWS] = number, hits, rows, kept
    counts[ACCESS_HITS] = access_hits
    counts[SKIPPED_ROWS], counts[SKIPPED_WEIGHT] = skipped, skipped_weight
