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
from moesim.engine.replay.clock.unit_groups import ASKED, BROADCAST, GROUP, all_gathered
from moesim.engine.replay.prefetch.arrays import (
    BEGUN,
    COPIES,
    EVERY,
    HEAD,
    HOSTED_NS,
    KIND,
    LAUNCHES,
    LOADS,
    MEANT,
    NOT_POOLED,
    OVERLAPS,
    PADS,
    PROMOTED,
    PROMOTED_BYTES,
    SHARE,
    UP_NS,
    WAITING,
)
from moesim.engine.replay.prefetch.prices import price_of
from moesim.engine.replay.prefetch.queue import leave
from moesim.engine.replay.prefetch.storage import account_of, lose
from moesim.engine.replay.prefetch.types import AT, BESIDE, COUNTS, DECIDED, UNDECIDED
from moesim.memory.slots.split import DOWN, UP
from moesim.runtime.compiled import types

_INT = types.int64


@inlined(types.void(UNDECIDED, AT, COUNTS, _INT, _INT))
def _count_use(undecided: Any, at: Any, counts: Any, expert: int, variant: int) -> None:
    """Count whether a hit uses a prefetch, and whether that was read from storage. Those made
    before passes may be used in a later pass than their own, and count once.
    """
    queue, stored, gpu = undecided.queue, undecided.stored, at.gpu
    meant = queue.meant[gpu, expert]
    if undecided.choices[EVERY] > 0:
        queue.meant[gpu, expert] = 0
        used = meant > 0
    else:
        used = meant == at.until
    if not used:
        return
    counts[USED] += 1
    counts[READS_USED] += len(stored.ahead) > 0 and bool(stored.ahead[gpu, expert])
    variants = undecided.variants.number
    if variants > 1:
        counts[len(counts) - variants + variant] += 1


@inlined(_INT(DECIDED, *[_INT] * 6))
def _add_copy(
    decided: Any, copy: int, expert: int, launch: int, wait: int, issued: int, copy_ns: int
) -> int:
    """``copy`` brings ``expert``; the copy behind it."""
    decided.copy_expert[copy], decided.copy_launch[copy] = expert, launch
    decided.copy_wait[copy], decided.copy_issued[copy] = wait, issued
    decided.copy_ns[copy] = copy_ns
    return copy + 1


@inlined(types.void(UNDECIDED, AT, COUNTS))
def _count_ended(undecided: Any, at: Any, counts: Any) -> None:
    """Count the prefetches for a layer that have ended, on accounts which begin anew."""
    told, variants, rest = undecided.decided.told, undecided.variants.number, undecided.rest
    queue, layers = undecided.queue, undecided.predicted.active.shape[1]
    first = account_of(undecided, at.layer, at.step, 0)
    for variant in range(variants):
        of = queue.ended[at.gpu, first + variant]
        started = of[BEGUN] + of[PROMOTED]
        counts[TAKEN_OVER] += of[PROMOTED]
        counts[STARTED] += started
        counts[CANCELLED] += of[MEANT] - started
        rest[at.layer, at.gpu, STARTED] += started
        told[PROMOTED_BYTES] += of[PROMOTED] * queue.bytes[variant * layers + at.layer]
        if variants > 1:
            column = len(counts) - 2 * variants + variant
            counts[column] += started
            rest[at.layer, at.gpu, column] += started
        of[MEANT] = of[BEGUN] = of[PROMOTED] = 0


@inlined(_INT(UNDECIDED, AT, *[_INT] * 4))
def _take(undecided: Any, at: Any, x: int, shelf: int, launch: int, copies: int) -> int:
    """A hit whose copy has not ended: what waits becomes one of the layer's ``copies``, for what is
    being copied its ``launch`` waits; returns how many copies there are.
    """
    queue, decided, gpu = undecided.queue, undecided.decided, at.gpu
    if queue.arrival[gpu, x] != WAITING:
        decided.there[launch] = max(decided.there[launch], queue.arrival[gpu, x])
        return copies
    leave(queue, gpu, x)
    issued, copy_ns = max(queue.issued[gpu, x], at.now), undecided.queue.copy_ns[shelf]
    e = x - shelf * at.local
    queue.arrival[gpu, x] = 0
    queue.ended[gpu, queue.account[gpu, x], PROMOTED] += 1
    return int(_add_copy(decided, copies, e, launch, -1, issued, copy_ns))


@inlined(types.void(UNDECIDED, AT, COUNTS))
def queue_copies(undecided: Any, at: Any, counts: Any) -> None:
    """The demand copies of the activations, promoted ones among them; follows evictions. ``counts``
    int64[COUNTED and forms] of this layer, pass and GPU.
    """
    queue, activating, deciding = undecided.queue, undecided.activating, undecided.deciding
    decided, variants, gpu = undecided.decided, undecided.variants, at.gpu
    layers, copies, loads, launches = undecided.predicted.active.shape[1], 0, 0, 0
    pooled, late, caused = at.pool != NOT_POOLED, 0, 0
    overlaps = undecided.choices[OVERLAPS] != 0
    for i in range(deciding.offsets[1]):
        e, hit, launch = deciding.expert[i], deciding.hit[i], deciding.launch[i]
        form = deciding.form[i]
        variant = variants.of_form[form]
        shelf = variant * layers + at.layer
        x = shelf * at.local + e
        while launches <= launch:
            decided.there[launches] = -1
            launches += 1
        if hit and pooled:
            _count_use(undecided, at, counts, x, variant)
            if activating.arriving[e]:
                late += 1
                copies = _take(undecided, at, x, shelf, launch, copies)
        elif not hit and variant < variants.number:
            caused += queue.caused[gpu, x]
        if pooled and deciding.victim[i] >= 0:
            victim = (shelf - at.place) * at.local + deciding.victim[i]
            queue.caused[gpu, victim] = False
            lose(undecided, gpu, victim)
        if not hit and activating.forms[IN_SLOT, form]:
            loads += 1
            wait = deciding.wait[i] if overlaps else max(deciding.wait[i], launch - 1)
            issued, copy_ns = at.now + loads * at.copy, variants.copy_ns[at.layer, form]
            copies = _add_copy(decided, copies, e, launch, wait, issued, copy_ns)
    decided.told[LAUNCHES], decided.told[COPIES], decided.told[LOADS] = launches, copies, loads
    counts[LATE] += late
    counts[CAUSED] += caused
    decided.told[PROMOTED_BYTES] = 0
    _count_ended(undecided, at, counts)


@inlined(types.void(UNDECIDED))
def _move_rows(undecided: Any) -> None:
    """Rows that another expert computes go to the one with most gate weight in a launch, of equals
    the lowest.
    """
    activating, moves, moved, best = undecided.activating, undecided.variants.moves, 0, -1
    weights, deciding = activating.kept_weight, undecided.deciding
    for i in range(deciding.offsets[1]):
        e, form = deciding.expert[i], deciding.form[i]
        if moves[form]:
            moved += activating.own[e]
        elif activating.forms[ON_GPU, form]:
            more = best < 0 or weights[e] > weights[best]
            if more or (weights[e] == weights[best] and e < best):
                best = e
    if moved > 0:
        activating.own[best] += moved


@inlined(types.void(UNDECIDED, *[_INT] * 4, types.boolean))
def _price_launch(
    undecided: Any, kind: int, launch: int, length: int, linked: int, single_row: bool
) -> None:
    """The price of ``launch``, whose pattern is asked for, if it has experts; so many of them are
    ``linked``: read over the link. ``single_row``: each has one row.
    """
    if length == HEAD:
        return
    decided, beside = undecided.decided, undecided.beside
    price = price_of(undecided.ask, undecided.patterns, length, single_row)
    decided.kernel_ns[launch], decided.read_ns[launch] = price, 0
    if linked > 0:
        decided.read_ns[launch] = max(beside.link_ns[kind, linked] - price, 0)
        beside.link_uses[kind, linked] += 1


@inlined(_INT(UNDECIDED, *[_INT] * 4))
def _ask_for(undecided: Any, layer: int, form: int, length: int, own: int) -> int:
    """An expert's ``own`` rows become the last of a pattern of so many; returns them, padded."""
    known, kinds = undecided.patterns, undecided.beside.kinds
    layers = undecided.predicted.active.shape[1]
    known.asked[KIND] = kinds[undecided.variants.of_form[form] * layers + layer]
    if undecided.choices[PADS] != 0:
        own = -(-own // BLOCK_ROWS) * BLOCK_ROWS
    known.asked[length] = own
    return own


@inlined(types.void(COUNTS, *[_INT] * 4))
def _count_rows(counts: Any, rows: int, kept: int, skipped: int, weight: int) -> None:
    counts[ROWS] += rows
    counts[KEPT_ROWS] += kept
    counts[SKIPPED_ROWS] += skipped
    counts[SKIPPED_WEIGHT] += weight


@inlined(_INT(BESIDE, *[_INT] * 4))
def _host(beside: Any, place: int, expert: int, kind: int, own: int) -> int:
    """The price of an ``expert`` of the host with its ``own`` rows, which is in a ``place`` of what
    groups of units compute, if there are some.
    """
    beside.cpu_uses[kind, own] += 1
    if len(beside.groups) > 0:
        beside.room[GROUP, place] = expert % beside.groups[0]
        for part in range(ASKED - BROADCAST):
            of_kind = kind * (ASKED - BROADCAST) + part
            beside.room[BROADCAST + part, place] = beside.parts_ns[of_kind, own]
    return int(beside.cpu_ns[kind, own])


@inlined(_INT(BESIDE, *[_INT] * 3))
def _hosted_ns(beside: Any, number: int, rows: int, prices_ns: int) -> int:
    """What a ``number`` of experts of the host take, and first their ``rows`` down."""
    if len(beside.groups) > 0:
        prices_ns = all_gathered(beside.room, number)
    return int(prices_ns + beside.moved_ns[DOWN, rows])


@inlined(types.void(UNDECIDED, AT, COUNTS))
def price_work(undecided: Any, at: Any, counts: Any) -> None:
    """Prices of the activations' launches and of the host's experts; counts the activations."""
    beside, activating, rest = undecided.beside, undecided.activating, undecided.rest
    deciding, variants, layer = undecided.deciding, undecided.variants, at.layer
    kind, number = beside.kinds[layer], deciding.offsets[1]
    if variants.number > 1:
        _move_rows(undecided)
    hosted_ns = up_ns = hosted_rows = hosted = linked = hits = access_hits = rows = kept = 0
    share = undecided.asked.share[at.low] if len(undecided.asked.share) > 0 and number > 0 else 0
    length, launch, forms, single_row = HEAD, 0, activating.forms, share == 0
    undecided.patterns.asked[SHARE] = share
    skipped = skipped_weight = 0
    for i in range(number + 1):
        if i == number or deciding.launch[i] > launch:
            _price_launch(undecided, kind, launch, length, linked, single_row)
            length, linked, single_row = HEAD, 0, share == 0
        if i == number:
            break
        e, form = deciding.expert[i], deciding.form[i]
        own, used = activating.own[e], activating.kept[e]
        kept += used
        hit = deciding.hit[i] and not activating.arriving[e]
        hits += hit
        counts[MISSED + form] += not deciding.hit[i]
        rest[layer, at.gpu, MISSED + form] += not deciding.hit[i]
        access_hits += used * hit
        if forms[ON_HOST, form]:
            hosted_ns += _host(beside, hosted, e, kind, own)
            hosted_rows += own
            hosted += 1
        elif forms[ON_GPU, form]:
            launch = deciding.launch[i]
            own = _ask_for(undecided, layer, form, length, own)
            single_row &= own == 1
            length += 1
            linked += forms[OVER_LINK, form]
        else:
            if not variants.moves[form]:
                skipped += used
                skipped_weight += activating.kept_weight[e]
            own = 0
        rows += own
    if hosted > 0:
        hosted_ns = _hosted_ns(beside, hosted, hosted_rows, hosted_ns)
        up_ns = beside.moved_ns[UP, hosted_rows]
    undecided.decided.told[HOSTED_NS], undecided.decided.told[UP_NS] = hosted_ns, up_ns
    counts[ACTIVATIONS] += number
    counts[HITS] += hits
    counts[ACCESS_HITS] += access_hits
    _count_rows(counts, rows, kept, skipped, skipped_weight)
