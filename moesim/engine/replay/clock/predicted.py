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
from moesim.memory.curves.recency import LANES
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
when that ends.
"""
MOST = 1 << 12
"""Experts of a layer, at most, so that the pass and the expert are one int32 (see ``used``)."""
NEVER = np.int32(np.iinfo(np.int32).max)
"""Later than any use."""
BITS = np.left_shift(1, np.arange(LANES)).astype(np.uint32).view(np.int32)
"""The bit of each lane."""


class Told(NamedTuple):
    """Passes and what is predicted for them: a row each, one of ``rows`` int64[passes] of ``ids``
    as the trace has them; where experts are, ``home`` uint16[MoE layers, experts]; what a launch
    takes, ``kernel_ns`` int64[MoE layers]. For a MoE layer are predicted, of row ``place``
    int64[MoE layers] of ``offsets`` int32[rows, passes + 1], the ``experts`` int16 from ``base``
    int64[rows] on.

    Who is in slots: when each was ``used`` last, int32[MoE layers, n x LANES], a number that grows
    with the pass and, in its lowest bits, so many as are the ``width``, the expert; ``slots``
    int64[MoE layers]; who is ``there``, and whose absence a prefetch ``caused``, int64[MoE layers,
    n], a bit an expert. The experts in ``queue`` int64[experts], which in it each is, ``turn``
    int64[experts], and its ``state`` int64[4]; who is ``queued`` and who ``waits`` still, int64[n].

    Room for a layer: who is ``needed``, and then whose copy is to be made, and who ``may_go``,
    int64[n]. Filled in are ``counts`` int64[counted, passes x MoE layers (or 1)] and, added to,
    ``copies`` int64[MoE layers].
    """

    ids: Any
    rows: Any
    home: Any
    kernel_ns: Any
    place: Any
    base: Any
    offsets: Any
    experts: Any
    used: Any
    width: Any
    slots: Any
    there: Any
    caused: Any
    queue: Any
    turn: Any
    state: Any
    queued: Any
    waits: Any
    needed: Any
    may_go: Any
    counts: Any
    copies: Any


_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
TOLD = ByAddress(
    Told, types.uint16[:, :, ::1], _FLAT, types.uint16[:, ::1], *[_FLAT] * 3, types.int32[:, ::1],
    types.int16[::1], types.int32[:, ::1], types.int64, _FLAT, _TABLE, _TABLE, *[_FLAT] * 7, _TABLE,
    _FLAT,
)  # fmt: skip


@built_in
def _ones(bits: Any) -> Any:
    return np.int64(ones_of(np.uint64(bits)))


@built_in
def _lowest(bits: Any) -> Any:
    return _ones(~bits & (bits - 1))


@built_in
def _word_of(expert: int, words: int) -> int:
    """The word that an expert has its bit in."""
    return expert >> SHIFT if words > 1 else 0


@built_in
def _put(of_words: Any, bits: Any, expert: int, words: int) -> Any:
    """Put an ``expert`` into ``of_words``, or into their ``bits`` where that is one of the
    ``words``: one that is written and read again is waited for.
    """
    bit = 1 << (expert & LANE)
    if words > 1:
        of_words[expert >> SHIFT] |= bit
    return bits | bit


@built_in
def _evict(told: Any, moe: int, may_go: Any, words: int) -> Any:
    """Of a layer's experts that ``may_go``, of whom there is one, that used longest ago goes;
    returns its word, and its bit in it. All are compared, in vectors: how many there are would be
    guessed wrong. Of one word ``may_go`` is what is in it.
    """
    oldest = NEVER
    for at in range(words):
        bits = np.int32(may_go if words == 1 else told.may_go[at])
        for lane in range(LANES):
            stays = np.int32(np.int32(bits & BITS[lane]) == 0) * NEVER
            oldest = min(oldest, np.int32(told.used[moe, at * LANES + lane] | stays))
    expert = np.int64(oldest) & ((1 << told.width) - 1)
    word, bit = _word_of(expert, words), 1 << (expert & LANE)
    if words > 1:
        told.may_go[word] ^= bit
    told.there[moe, word] ^= bit
    if told.state[FLYING] == moe * EXPERTS + expert:
        told.state[FLYING] = -1
    return word, bit


@built_in
def _begin(
    told: Any, moe: int, known: int, copied: int, to_copy: int, each: int, words: int
) -> Any:
    """The prefetches for a layer that could begin before it is ``known`` have, behind a copy that
    ends at ``copied``: how many, and when the last copy ends.
    """
    state, begun = told.state, 0
    while begun < state[QUEUED]:
        start = max(copied, state[ASKED] + (begun + 1) * to_copy)
        if start >= known:
            break
        expert = told.queue[np.uint64(begun)]
        told.waits[_word_of(expert, words)] ^= 1 << (expert & LANE)
        state[FLYING], state[LANDS] = moe * EXPERTS + expert, start + each
        copied = start + each
        begun += 1
    return begun, copied


@built_in
def _need(told: Any, p: int, moe: int, words: int) -> None:
    """Note who a layer needs, which are those used last."""
    needed, row, now = told.needed, told.rows[p], (told.used.shape[1] + p) << told.width
    bits = np.int64(0)
    for at in range(words):
        needed[at] = 0
    for i in range(told.ids.shape[2]):
        expert = np.int64(told.home[moe, told.ids[row, moe, i]])
        told.used[moe, expert] = now | expert
        bits = _put(needed, bits, expert, words)
    if words == 1:
        needed[0] = bits


@built_in
def _landing(told: Any, moe: int, known: int, words: int) -> int:
    """When what is being copied is there, if a layer needs it; else -1."""
    expert = told.state[FLYING] - moe * EXPERTS
    if not 0 <= expert < EXPERTS or told.state[LANDS] <= known:
        return -1
    needed = (told.needed[_word_of(expert, words)] >> (expert & LANE)) & 1
    return int(told.state[LANDS]) if needed > 0 else -1


@built_in
def _end_queue(told: Any, moe: int, words: int) -> Any:
    """Of the prefetches for a layer those that wait and are not needed are cancelled, and it gets
    slots for what it misses; returns how many of its prefetches are needed, and how many of these
    wait; how many misses there are, and of how many a prefetch is the cause.
    """
    used = waiting = misses = caused = 0
    over = -told.slots[moe]
    for at in range(words):
        needed, waits = told.needed[at], told.waits[at]
        there = told.there[moe, at] & (needed | ~waits)
        missing, late = needed & ~there, needed & waits
        used += _ones(needed & told.queued[at])
        waiting += _ones(late)
        misses += _ones(missing)
        caused += _ones(missing & told.caused[moe, at])
        over += _ones(there | missing)
        told.waits[at], told.needed[at] = late, late | missing
        told.there[moe, at], told.may_go[at] = there | missing, there & ~needed
    may_go = told.may_go[0]
    for _ in range(over):
        word, bit = _evict(told, moe, may_go, words)
        may_go ^= bit
        told.caused[moe, word] &= ~bit
    return used, waiting, misses, caused


@built_in
def _copy(told: Any, known: int, copied: int, to_copy: int, each: int, words: int) -> Any:
    """What a layer misses is copied, and what waits for it, in ascending order: when the last copy
    ends.
    """
    asked, loads = told.state[ASKED], 0
    one_by_one = asked + told.state[QUEUED] * to_copy > known or to_copy > each
    for at in range(words):
        bits, waits = told.needed[at], told.waits[at]
        while bits != 0 and one_by_one:
            lane = _lowest(bits)
            bits &= bits - 1
            late = (waits >> lane) & 1
            loads += 1 - late
            ahead = asked + (told.turn[at * LANES + lane] + 1) * to_copy
            issued = ahead if late > 0 else known + loads * to_copy
            copied = max(issued, known, copied) + each
        if bits != 0:  # all but the first is issued before the one before it is copied
            issued = known + (to_copy if bits & ~(bits - 1) & ~waits != 0 else 0)
            copied = max(issued, copied) + _ones(bits) * each
    return copied


@built_in
def _admit(told: Any, moe: int, number: int, words: int) -> int:
    """Give the experts in the queue, so many, slots of a layer; returns how many get one."""
    free, may_go = told.slots[moe], 0
    for at in range(words):
        free -= _ones(told.there[moe, at])
        may_go += _ones(told.may_go[at])
    admitted = min(number, free + may_go)
    for turn in range(admitted, number):
        expert = told.queue[turn]
        told.queued[_word_of(expert, words)] ^= 1 << (expert & LANE)
    bits = told.may_go[0]
    for _ in range(admitted - free):
        word, bit = _evict(told, moe, bits, words)
        bits ^= bit
        told.caused[moe, word] |= bit
    for at in range(words):
        told.waits[at] = told.queued[at]
        told.there[moe, at] |= told.queued[at]
    return int(admitted)


@built_in
def _prefetch(told: Any, p: int, moe: int, asked: int, words: int) -> int:
    """Queue what is predicted for the layer behind and in no slot of it; returns how many."""
    behind = moe + 1 == len(told.slots)
    moe, p, number = 0 if behind else moe + 1, p + 1 if behind else p, 0
    told.state[ASKED], row, low, high = asked, told.place[moe], 0, 0
    if p + 1 < told.offsets.shape[1]:
        low = told.base[row] + told.offsets[row, p]
        high = told.base[row] + told.offsets[row, p + 1]
    bits = np.int64(0)
    for at in range(words):
        told.queued[at] = 0
    for i in range(low, high):
        expert = np.int64(told.experts[np.uint64(i)])
        word = _word_of(expert, words)
        bits = _put(told.queued, bits, expert, words)
        told.queue[np.uint64(number)], told.turn[np.uint64(expert)] = expert, number
        number += 1 - ((told.there[moe, word] >> (expert & LANE)) & 1)
    for at in range(words):
        predicted, there = bits if words == 1 else told.queued[at], told.there[moe, at]
        told.queued[at], told.may_go[at] = predicted & ~there, there & ~predicted
    number = _admit(told, moe, number, words)
    told.state[QUEUED] = number
    return int(number)


@built_in
def _count(counts: Any, cell: int, counted: Any) -> None:
    """Count what a layer of a pass misses, how many it needs of what comes late, of its prefetches
    how many have begun, are used, wait for it and were queued; and how many misses these caused.
    """
    misses, late, begun, used, waiting, queued, caused = counted
    counts[HITS, cell] -= misses + late
    counts[ACCESS_HITS, cell] -= misses + late
    counts[MISSED, cell] += misses
    counts[LATE, cell] += late
    counts[STARTED, cell] += begun + waiting
    counts[USED, cell] += used
    counts[TAKEN_OVER, cell] += waiting
    counts[CANCELLED, cell] += queued - begun - waiting
    counts[CAUSED, cell] += caused


@inlined(WORK(TOLD, types.int64, types.int64))
def _predicted_work(works: Any, _p: int, moe: int) -> Any:
    """What a layer has to do; its copies are told when they are decided."""
    return 0, 1, works.kernel_ns[moe], 0, 0, 0


@built_in
def _decide(
    fixed: Any, works: Any, at: Any, known: int, copied: int, time: int, cursor: int, words: int
) -> Any:
    """The prefetches for a layer of a pass, ``at`` these, end, what it misses is copied, and what
    is predicted for the next layer is asked for.
    """
    p, moe = at
    to_copy, each, queued = fixed.copy, fixed.copy_ns[moe], works.state[QUEUED]
    begun, copied = _begin(works, moe, known, copied, to_copy, each, words)
    _need(works, p, moe, words)
    there = _landing(works, moe, known, words)
    used, waiting, loads, caused = _end_queue(works, moe, words)
    copied = _copy(works, known, copied, to_copy, each, words)
    issues = loads + _prefetch(works, p, moe, known + loads * to_copy, words)
    works.copies[moe] += loads + begun + waiting
    counted = loads, waiting + (there >= 0), begun, used, waiting, queued, caused
    apart = works.counts.shape[1] > len(works.rows)
    _count(works.counts, p * len(works.slots) + moe if apart else p, counted)
    return time, cursor, copied, copied if loads + waiting > 0 else there, issues


_BRING = BROUGHT(FIXED, TOLD, GPUS, TABLE, *[types.int64] * 7)


@inlined(_BRING)
def _decide_word(
    fixed: Any, works: Any, _gpus: Any, _charged: Any, p: int, moe: int, _issues: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """As ``_decide``, of experts that are one word: loops over words are none."""
    return _decide(fixed, works, (p, moe), known, copied, time, cursor, 1)


@inlined(_BRING)
def _decide_words(
    fixed: Any, works: Any, _gpus: Any, _charged: Any, p: int, moe: int, _issues: int, known: int,
    copied: int, time: int, cursor: int,
) -> Any:  # fmt: skip
    """As ``_decide``, of more."""
    words = works.there.shape[1]
    return _decide(fixed, works, (p, moe), known, copied, time, cursor, words)


_compiled = compiled_clock(types.void(FIXED, PASSES, TOLD, GPUS, FILLED), vectors=True)
play_word = _compiled(one_gpu_with(_predicted_work, _decide_word))
"""The clock of layers whose experts, LANES at most, are predicted."""
play_words = _compiled(one_gpu_with(_predicted_work, _decide_words))
"""The same, of more experts."""
