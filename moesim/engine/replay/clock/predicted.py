"""The clock of one GPU whose layers are one launch each, under LRU, with experts that are
prefetched one layer ahead by predictions that may be wrong: each layer is decided when its counts
are known. How recently experts were used does not depend on the clock; who is in a slot does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.clock.one_gpu import BROUGHT, WORK, one_gpu_with
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, PASSES, TABLE
from moesim.engine.replay.clock.steps import compiled_clock, inlined
from moesim.memory.curves.recency import LANES, move_up
from moesim.runtime.by_address import ByAddress
from moesim.runtime.compiled import built_in, types
from moesim.runtime.words import ones_of

AHEAD = (
    "late", "prefetched", "prefetches_used", "prefetches_promoted", "prefetches_cancelled",
    "misses_caused",
)  # fmt: skip
HITS, ACCESS_HITS, MISSED = range(3)
LATE, STARTED, USED, TAKEN_OVER, CANCELLED, CAUSED = range(3, 3 + len(AHEAD))
"""Where is counted what layers hit and miss, and behind it AHEAD."""
SHIFT, LANE = LANES.bit_length() - 1, LANES - 1
"""What takes an expert to its word, and to its bit in it."""
EXPERTS = 1 << 16
"""More than a layer has."""
QUEUED, ASKED, FLYING, LANDS = range(4)
"""The state of what is copied ahead: how many prefetches were queued for the next layer, when they
were asked for, but for what each takes of the host; the copy that began last, as its layer's
experts are numbered behind those of the layers before it (-1: its expert has lost its slot), and
when that ends."""


class Told(NamedTuple):
    """Passes and what is predicted for them: a row each, one of ``rows`` int64[passes] of ``ids``
    as the trace has them; where experts are, ``home`` uint16[MoE layers, experts]; what a launch
    takes, ``kernel_ns`` int64[MoE layers]. For a MoE layer are predicted, of row ``place``
    int64[MoE layers] of ``offsets`` int32[rows, passes + 1], the ``experts`` int16 from ``base``
    int64[rows] on.

    Who is in slots: the ranks by last use, ``lines`` uint16[MoE layers, n, LANES], all different;
    ``slots`` int64[MoE layers]; who is ``there``, and whose absence a prefetch ``caused``,
    int64[MoE layers, n], a bit an expert. The experts in ``queue`` int64[experts], and its
    ``state`` int64[4].

    Room for a layer: who is ``needed``, whose copy ``waits``, and who ``stays``, int64[n]; what it
    ``chooses``, experts and ranks uint16[2, room]; which in the queue each is, ``turn``
    int64[experts]. Filled in are ``counts`` int64[counted, passes, MoE layers (or 1)] and, added
    to, ``copies`` int64[MoE layers].
    """

    ids: Any
    rows: Any
    home: Any
    kernel_ns: Any
    place: Any
    base: Any
    offsets: Any
    experts: Any
    lines: Any
    slots: Any
    there: Any
    caused: Any
    queue: Any
    state: Any
    needed: Any
    waits: Any
    stays: Any
    chooses: Any
    turn: Any
    counts: Any
    copies: Any


_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_IDS, _HOMES = types.uint16[:, :, ::1], types.uint16[:, ::1]
TOLD = ByAddress(
    Told, _IDS, _FLAT, _HOMES, _FLAT, _FLAT, _FLAT, types.int32[:, ::1], types.int16[::1], _IDS,
    _FLAT, _TABLE, _TABLE, *[_FLAT] * 5, _HOMES, _FLAT, _CUBE, _FLAT,
)  # fmt: skip


@built_in
def _ones(bits: Any) -> Any:
    return np.int64(ones_of(np.uint64(bits)))


@built_in
def _lowest(bits: Any) -> Any:
    return _ones(~bits & (bits - 1))


@built_in
def _one(told: Any) -> Any:
    """Whether all experts of a layer are bits of one word, which then stays in a register: one that
    is written and read again is waited for.
    """
    return told.there.shape[1] == 1


@built_in
def _free(told: Any, moe: int) -> Any:
    """How many of a layer's slots are."""
    free = told.slots[moe]
    for at in range(told.there.shape[1]):
        free -= _ones(told.there[moe, at])
    return free


@built_in
def _evict(told: Any, moe: int, stays: Any) -> int:
    """Of a layer's experts that are there and not among those who ``stays``, the one used longest
    ago goes; returns it, -1 without one.
    """
    oldest = -1
    for at in range(told.there.shape[1]):
        bits = told.there[moe, at] & ~stays[at]
        while bits != 0:
            lane = _lowest(bits)
            bits &= bits - 1
            rank = np.int64(told.lines[moe, at, lane])
            oldest = max(oldest, rank * EXPERTS + at * LANES + lane)
    if oldest < 0:
        return -1
    expert = oldest & (EXPERTS - 1)
    told.there[moe, expert >> SHIFT] ^= 1 << (expert & LANE)
    if told.state[FLYING] == moe * EXPERTS + expert:
        told.state[FLYING] = -1
    return int(expert)


@built_in
def _begin(told: Any, moe: int, known: int, copied: int, to_copy: int, each: int) -> Any:
    """The prefetches for a layer that could begin before it is ``known`` have, behind a copy that
    ends at ``copied``: how many, and when the last copy ends.
    """
    state, begun = told.state, 0
    while begun < state[QUEUED]:
        start = max(copied, state[ASKED] + (begun + 1) * to_copy)
        if start >= known:
            break
        copied = start + each
        begun += 1
    if begun > 0:
        state[FLYING], state[LANDS] = moe * EXPERTS + told.queue[begun - 1], copied
    return begun, copied


@built_in
def _need(told: Any, p: int, moe: int) -> None:
    """Note who a layer needs, and how recently it used them."""
    needed, chooses, row = told.needed, told.chooses, told.rows[p]
    one_word, bits = _one(told), np.int64(0)
    for at in range(0 if one_word else len(needed)):
        needed[at] = told.waits[at] = 0
    for i in range(told.ids.shape[2]):
        expert = np.int64(told.home[moe, told.ids[row, moe, i]])
        word, lane = expert >> SHIFT, expert & LANE
        chooses[0, i], chooses[1, i] = expert, told.lines[moe, word, lane]
        bits |= 1 << lane
        if not one_word:
            needed[word] |= 1 << lane
    if one_word:
        needed[0], told.waits[0] = bits, 0


@built_in
def _end_queue(told: Any, moe: int, begun: int) -> Any:
    """Of the prefetches for a layer, of which so many have ``begun``, those that wait and are not
    needed are cancelled; returns how many are needed, and how many of these wait.
    """
    used = waiting = late = gone = 0
    one_word = _one(told)
    for turn in range(told.state[QUEUED]):
        expert = told.queue[turn]
        at, lane = expert >> SHIFT, expert & LANE
        needed = (told.needed[at] >> lane) & 1
        used += needed
        told.turn[expert] = turn
        waits = turn >= begun
        waiting += needed * waits
        late |= (needed * waits) << lane
        gone |= ((1 - needed) * waits) << lane
        if not one_word:
            told.waits[at] |= late
            told.there[moe, at] &= ~gone
            late = gone = 0
    if one_word:
        told.waits[0] = late
        told.there[moe, 0] &= ~gone
    return used, waiting


@built_in
def _make_room(told: Any, moe: int) -> Any:
    """Room for what a layer misses; returns of how many experts a prefetch is the cause."""
    misses, caused, free = 0, 0, _free(told, moe)
    for at in range(len(told.needed)):
        missing = told.needed[at] & ~told.there[moe, at]
        misses += _ones(missing)
        caused += _ones(missing & told.caused[moe, at])
    for _ in range(misses - free):
        victim = _evict(told, moe, told.needed)
        told.caused[moe, victim >> SHIFT] &= ~(1 << (victim & LANE))
    return caused


@built_in
def _landing(told: Any, moe: int, known: int) -> int:
    """When what is being copied is there, if a layer needs it; else -1."""
    expert = told.state[FLYING] - moe * EXPERTS
    if not 0 <= expert < EXPERTS or told.state[LANDS] <= known:
        return -1
    needed = (told.needed[expert >> SHIFT] >> (expert & LANE)) & 1
    return int(told.state[LANDS]) if needed > 0 else -1


@built_in
def _copy(told: Any, moe: int, known: int, copied: int, to_copy: int, each: int) -> Any:
    """What a layer misses is copied, and what waits for it, in ascending order: when the last copy
    ends, and how many the host issues for those.
    """
    state, loads = told.state, 0
    for at in range(len(told.needed)):
        waits = told.waits[at]
        bits = waits | (told.needed[at] & ~told.there[moe, at])
        while bits != 0:
            lane = _lowest(bits)
            bits &= bits - 1
            late = (waits >> lane) & 1
            loads += 1 - late
            ahead = state[ASKED] + (told.turn[at * LANES + lane] + 1) * to_copy
            issued = ahead if late > 0 else known + loads * to_copy
            copied = max(issued, known, copied) + each
        told.there[moe, at] |= told.needed[at]
    return copied, loads


@built_in
def _admit(told: Any, moe: int, number: int) -> int:
    """Give the experts in the queue, so many, slots of a layer; returns how many get one."""
    free = _free(told, moe)
    for turn in range(number):
        if turn >= free:
            victim = _evict(told, moe, told.stays)
            if victim < 0:
                return turn
            told.caused[moe, victim >> SHIFT] |= 1 << (victim & LANE)
        expert = told.queue[turn]
        told.there[moe, expert >> SHIFT] |= 1 << (expert & LANE)
    return number


@built_in
def _prefetch(told: Any, p: int, moe: int, asked: int) -> int:
    """Queue what is predicted for the layer behind and in no slot of it; returns how many."""
    behind = moe + 1 == len(told.slots)
    moe, p, number = 0 if behind else moe + 1, p + 1 if behind else p, 0
    told.state[ASKED], told.state[QUEUED], row = asked, 0, told.place[moe]
    if p + 1 == told.offsets.shape[1]:
        return 0
    low = told.base[row] + told.offsets[row, p]
    high = told.base[row] + told.offsets[row, p + 1]
    one_word, bits = _one(told), np.int64(0)
    for at in range(0 if one_word else len(told.stays)):
        told.stays[at] = 0
    for i in range(low, high):
        expert = np.int64(told.experts[i])
        bits |= 1 << (expert & LANE)
        if not one_word:
            told.stays[expert >> SHIFT] |= 1 << (expert & LANE)
        told.queue[number] = expert
        number += 1 - ((told.there[moe, expert >> SHIFT] >> (expert & LANE)) & 1)
    if one_word:
        told.stays[0] = bits
    number = _admit(told, moe, number)
    told.state[QUEUED] = number
    return int(number)


@built_in
def _use(told: Any, moe: int) -> None:
    """What a layer chooses was used last."""
    number, (chosen, ranks) = told.ids.shape[2], (told.chooses[0], told.chooses[1])
    move_up(told.lines[moe], chosen, ranks, number, told.chooses.shape[1])


@built_in
def _count(counts: Any, p: int, row: int, counted: Any) -> None:
    """Count what a layer of a pass misses, how many it needs of what comes late, of its prefetches
    how many have begun, are used, wait for it and were queued; and how many misses these caused.
    """
    misses, late, begun, used, waiting, queued, caused = counted
    counts[HITS, p, row] -= misses + late
    counts[ACCESS_HITS, p, row] -= misses + late
    counts[MISSED, p, row] += misses
    counts[LATE, p, row] += late
    counts[STARTED, p, row] += begun + waiting
    counts[USED, p, row] += used
    counts[TAKEN_OVER, p, row] += waiting
    counts[CANCELLED, p, row] += queued - begun - waiting
    counts[CAUSED, p, row] += caused


@inlined(WORK(TOLD, types.int64, types.int64))
def _predicted_work(works: Any, _p: int, moe: int) -> Any:
    """What a layer has to do; its copies are told when they are decided."""
    return 0, 1, works.kernel_ns[moe], 0, 0


@inlined(BROUGHT(FIXED, TOLD, GPUS, TABLE, *[types.int64] * 7))
def _decide(
    fixed: Any, works: Any, _gpus: Any, _charged: Any, p: int, moe: int, _issues: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """The prefetches for a layer end, what it misses is copied, and what is predicted for the next
    layer is asked for.
    """
    to_copy, each, queued = fixed.copy, fixed.copy_ns[moe], works.state[QUEUED]
    begun, copied = _begin(works, moe, known, copied, to_copy, each)
    _need(works, p, moe)
    used, waiting = _end_queue(works, moe, begun)
    caused = _make_room(works, moe)
    there = _landing(works, moe, known)
    copied, loads = _copy(works, moe, known, copied, to_copy, each)
    _use(works, moe)
    issues = loads + _prefetch(works, p, moe, known + loads * to_copy)
    works.copies[moe] += loads + begun + waiting
    counted = loads, waiting + (there >= 0), begun, used, waiting, queued, caused
    _count(works.counts, p, moe if works.counts.shape[2] > 1 else 0, counted)
    return time, cursor, copied, copied if loads + waiting > 0 else there, issues


play_predicted = compiled_clock(types.void(FIXED, PASSES, TOLD, GPUS, FILLED), vectors=True)(
    one_gpu_with(_predicted_work, _decide)
)
"""The clock of layers whose experts are predicted."""
