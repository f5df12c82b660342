"""What a GPU that prefetches has from storage: its host's memory and the drive below; compiled."""

from __future__ import annotations

from typing import Any

from moesim.engine.counts import HOST_HITS, READS_AHEAD, STORAGE_READS
from moesim.engine.replay.clock.records import FIXED, GPUS
from moesim.engine.replay.clock.steps import inlined
from moesim.engine.replay.prefetch.arrays import COPIES, HOST_THERE, LAUNCHES, READ, WAITING
from moesim.engine.replay.prefetch.queue import drop
from moesim.engine.replay.prefetch.types import AT, COUNTS, UNDECIDED, part
from moesim.memory.forms import Flags
from moesim.memory.slots.open_slots import vacate
from moesim.runtime.compiled import types

_INT = types.int64
ON_HOST, NOWHERE = Flags._fields.index("on_host"), Flags._fields.index("nowhere")
MISSED, LATE = 1, 2
"""What a wanted expert is: to be asked for, or late, and its read waits."""


@inlined(_INT(UNDECIDED, _INT, _INT, _INT))
def account_of(undecided: Any, layer: int, step: int, variant: int) -> int:
    """On which account prefetches for a layer of pass ``step`` are counted."""
    turns = undecided.queue.turns  # a power of two
    return int((layer * turns + (step & (turns - 1))) * undecided.variants.number + variant)


@part(types.void(UNDECIDED, _INT, _INT))
def lose(undecided: Any, gpu: int, expert: int) -> None:
    """``expert`` of ``gpu`` has lost its slot; its copy, if it waits, is cancelled, and its read,
    if that does.
    """
    queue, stored = undecided.queue, undecided.stored
    if queue.arrival[gpu, expert] == WAITING and queue.issued[gpu, expert] == WAITING:
        queue.issued[gpu, expert] = 0
        slots = stored.deciding.slots
        if len(slots.slots) > 0 and slots.slot_of[gpu, stored.number[gpu, expert]] >= 0:
            vacate(slots, gpu, stored.number[gpu, expert])
    drop(queue, gpu, expert)


@part(types.void(UNDECIDED, _INT, _INT, _INT))
def _ask(undecided: Any, gpu: int, step: int, asked: int) -> None:
    """The first so many experts that are wanted in ``step``: ``hit`` says which are there."""
    stored = undecided.stored
    deciding = stored.deciding
    if len(deciding.slots.slots) == 0 or asked == 0:
        for i in range(asked):
            deciding.hit[i] = False
        return
    deciding.offsets[1] = asked
    stored.decide(deciding, gpu, 0, asked, step, 0, 0, 0)


@part(types.void(FIXED, UNDECIDED, GPUS, _INT, _INT))
def advance_reads(fixed: Any, undecided: Any, gpus: Any, gpu: int, now: int) -> None:
    """Begin the reads ahead that could begin before ``now``."""
    queue, stored, node = undecided.queue, undecided.stored, fixed.node[gpu]
    free, end = gpus.drive[node], queue.following.shape[1] - 1
    expert = queue.following[gpu, end]
    while expert != end:
        if queue.issued[gpu, expert] == WAITING:
            start = max(free, stored.asked[gpu, expert])
            if start >= now:
                break
            layer = queue.shelf[gpu, expert]
            free = start + fixed.read_busy[layer]
            stored.there[gpu, expert] = free + fixed.read_after[layer]
            may_copy = stored.there[gpu, expert] - fixed.read_lead[layer]
            queue.issued[gpu, expert] = max(stored.issued[gpu, expert], may_copy)
            queue.ended[gpu, queue.account[gpu, expert], READ] += 1
        expert = queue.following[gpu, expert]
    gpus.drive[node] = free


@inlined(_INT(UNDECIDED, AT))
def _mark_wanted(undecided: Any, at: Any) -> int:
    """Which active experts want something from the drive or its host; how many ask the host."""
    queue, stored, activating = undecided.queue, undecided.stored, undecided.activating
    deciding, gpu, asked = undecided.deciding, at.gpu, 0
    flat = at.layer * at.local
    for i in range(deciding.offsets[1]):
        e, waits = deciding.expert[i], False
        if deciding.hit[i]:
            waits = activating.arriving[e] and queue.issued[gpu, flat + e] == WAITING
        missed = not deciding.hit[i] and not activating.forms[NOWHERE, deciding.form[i]]
        stored.mark[e] = MISSED * missed + LATE * waits
    for i in range(deciding.offsets[1]):
        e = deciding.experts[i]
        if stored.mark[e] == MISSED:
            stored.deciding.experts[asked] = stored.number[gpu, flat + e]
            asked += 1
    return int(asked)


@inlined(types.void(FIXED, UNDECIDED, AT))
def _wait_for(fixed: Any, undecided: Any, at: Any) -> None:
    """When launches and the host have what is read, and copies may start."""
    stored, activating, decided = undecided.stored, undecided.activating, undecided.decided
    deciding, layer, gpu = undecided.deciding, at.layer, at.gpu
    flat, of_host = layer * at.local, -1
    for launch in range(decided.told[LAUNCHES]):
        decided.stored[launch] = -1
    for i in range(deciding.offsets[1]):
        e, hit = deciding.expert[i], deciding.hit[i]
        there = stored.there[gpu, flat + e]
        if there <= at.now or not (activating.arriving[e] if hit else stored.mark[e] > 0):
            continue
        if not hit and activating.forms[ON_HOST, deciding.form[i]]:
            of_host = max(of_host, there)
        else:
            launch = deciding.launch[i]
            decided.stored[launch] = max(decided.stored[launch], there)
    decided.told[HOST_THERE] = of_host
    for copy in range(decided.told[COPIES]):
        x = flat + decided.copy_expert[copy]
        decided.copy_there[copy] = stored.there[gpu, x] - fixed.read_lead[layer]
        if decided.copy_issued[copy] == WAITING:
            decided.copy_issued[copy] = max(stored.issued[gpu, x], at.now)


@inlined(types.void(FIXED, GPUS, UNDECIDED, AT, COUNTS))
def read_wanted(fixed: Any, gpus: Any, undecided: Any, at: Any, counts: Any) -> None:
    """The activations of a work ask for what they miss, and what is not in memory is read, in
    ascending order; late ones whose reads wait are among them.
    """
    queue, stored, deciding = undecided.queue, undecided.stored, undecided.deciding
    layer, gpu = at.layer, at.gpu
    flat, node = layer * at.local, fixed.node[gpu]
    asked = _mark_wanted(undecided, at)
    _ask(undecided, gpu, at.until - 1, asked)
    ended = queue.ended[gpu, account_of(undecided, layer, at.step, 0)]
    free, place, reads, hits = max(gpus.drive[node], at.now), 0, 0, 0
    for i in range(deciding.offsets[1]):
        e = deciding.experts[i]
        takes = stored.mark[e] == LATE
        if takes:
            ended[READ] += 1
            queue.issued[gpu, flat + e] = 0
        elif stored.mark[e] == MISSED:
            takes = not stored.deciding.hit[place]
            reads += takes
            hits += not takes
            place += 1
        if takes:
            free += fixed.read_busy[layer]
            stored.there[gpu, flat + e] = free + fixed.read_after[layer]
    gpus.drive[node] = free
    counts[HOST_HITS] += hits
    counts[READS_AHEAD] += ended[READ]
    counts[STORAGE_READS] += reads + ended[READ]
    undecided.rest[layer, gpu, STORAGE_READS] += reads + ended[READ]
    ended[READ] = 0
    _wait_for(fixed, undecided, at)


@inlined(types.void(FIXED, UNDECIDED, AT, _INT))
def read_ahead(fixed: Any, undecided: Any, at: Any, fresh: int) -> None:
    """The last ``fresh`` prefetches of a GPU ask the host, in order; what is not there will be
    read.
    """
    queue, stored = undecided.queue, undecided.stored
    deciding, gpu = stored.deciding, at.gpu
    for i in range(fresh):
        deciding.experts[i] = stored.number[gpu, stored.fresh[i]]
    _ask(undecided, gpu, at.until - 1, fresh)
    for i in range(fresh):
        x = stored.fresh[i]
        stored.ahead[gpu, x] = not deciding.hit[i]
        if not deciding.hit[i]:
            stored.issued[gpu, x], stored.asked[gpu, x] = queue.issued[gpu, x], at.now
            queue.issued[gpu, x] = WAITING
        elif stored.there[gpu, x] > at.now:
            may_copy = stored.there[gpu, x] - fixed.read_lead[queue.shelf[gpu, x]]
            queue.issued[gpu, x] = max(queue.issued[gpu, x], may_copy)
