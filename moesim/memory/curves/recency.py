"""LRU: the misses of all sizes in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts
from moesim.runtime.compiled import built_in, njit, types

Ints = NDArray[np.int64]
StackDistances = NDArray[np.uint16]


_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
_RANK, _RANKS = types.uint16[::1], types.uint16[:, ::1]
LANES = 32
"""Ranks that one instruction takes."""
TOGETHER = 4
"""Experts that are moved up at once."""


@built_in
def _make_way(ranks: Any, number: int, one: int, two: int, three: int, four: int) -> None:
    """Let four experts be used whose ranks are ``one`` to ``four`` (0: that changes nothing): of a
    ``number`` of ``ranks``, those below theirs become larger, as they were used before these now.
    """
    for at in range(number):
        rank = ranks[at]
        ranks[at] = rank + (rank < one) + (rank < two) + (rank < three) + (rank < four)


@built_in
def make_way(ranks: Any, tops: Any) -> None:
    """As ``_make_way``, of LANES ``ranks``, for experts that have the ranks ``tops`` uint16[4]."""
    _make_way(ranks, LANES, tops[0], tops[1], tops[2], tops[3])


@built_in
def _rank_of(ranks: Any, experts: Any, at: int, end: int) -> Any:
    """The rank of an expert, 0 from the ``end`` of ``experts`` on."""
    return ranks[experts[at]] if at < end else np.uint16(0)


@built_in
def rank_in(lines: Any, experts: Any, at: int, end: int) -> Any:
    """As ``_rank_of``, of ranks in ``lines``."""
    return lines[experts[at] // LANES, experts[at] % LANES] if at < end else np.uint16(0)


@built_in
def move_up(
    lines: Any, needed: Any, ranks: Any, moved: Any, number: int, room: int, first: int
) -> None:
    """Let a ``number`` of ``needed`` experts uint16[room] be those used last, in ascending order.
    ``lines`` uint16[experts / LANES, LANES]: of each how many were used after it, those needed
    ``ranks`` uint16[room]. ``room`` is a multiple of TOGETHER; behind the ``number`` all is 0, and
    in ``moved`` uint16[room], where ranks are noted that change on the way. Lines before the
    ``first`` have other ranks than experts.
    """
    for i in range(0, room, TOGETHER):
        for j in range(i, number if i > 0 else 0):  # those before have moved
            moved[j] = lines[needed[j] // LANES, needed[j] % LANES]
        now = moved if i > 0 else ranks
        for at in range(first, len(lines)):
            _make_way(lines[at], LANES, now[i], now[i + 1], now[i + 2], now[i + 3])
    for i in range(room):
        if i < number:
            newer, expert = 0, needed[i]
            for j in range(room):
                newer += needed[j] > expert
            lines[expert // LANES, expert % LANES] = newer


@built_in
def put_in_order(experts: Any, room: int) -> None:
    """Let the first ``room`` of ``experts`` ascend, without a branch, which would be guessed wrong:
    each two neighbours in turn, so that they stay in registers.
    """
    for end in range(room - 1, 0, -1):
        for i in range(end):
            one, two = experts[i], experts[i + 1]
            experts[i], experts[i + 1] = min(one, two), max(one, two)


@built_in
def move_up_where(lines: Any, needed: Any, ranks: Any, stays: Any, room: int) -> None:
    """As ``move_up`` of those ``needed``, ascending, that ``stays`` uint16[room] says, 1 or 0, of
    which the ``ranks`` are told; others are then behind all. Nothing is branched on.
    """
    for i in range(0, room, TOGETHER):
        for j in range(i, room if i > 0 else 0):  # those before have moved
            ranks[j] = lines[needed[j] // LANES, needed[j] % LANES] * stays[j]
        for at in range(len(lines)):
            _make_way(lines[at], LANES, ranks[i], ranks[i + 1], ranks[i + 2], ranks[i + 3])
    newer = np.int64(0)
    for i in range(room - 1, -1, -1):
        stay = np.int64(stays[i])
        lines[needed[i] // LANES, needed[i] % LANES] = newer | (stay - 1)
        newer += stay


@built_in
def move_up_some(lines: Any, needed: Any, number: int) -> None:
    """As ``move_up``, of any ``number``."""
    for i in range(0, number, TOGETHER):
        one, two = rank_in(lines, needed, i, number), rank_in(lines, needed, i + 1, number)
        three, four = rank_in(lines, needed, i + 2, number), rank_in(lines, needed, i + 3, number)
        for at in range(len(lines)):
            _make_way(lines[at], LANES, one, two, three, four)
    for i in range(number):
        lines[needed[i] // LANES, needed[i] % LANES] = number - 1 - i


@built_in
def _make_way_apart(ranks: Any, tops: Any, bases: Any) -> None:
    """As ``_make_way`` by the ``tops`` uint16[TOGETHER], of ranks from their ``bases`` on alone."""
    one, two, three, four = tops[0], tops[1], tops[2], tops[3]
    of_one, of_two, of_three, of_four = bases[0], bases[1], bases[2], bases[3]
    for at in range(LANES):
        rank = ranks[at]
        newer = rank + (rank < one) + (rank < two) + (rank < three) + (rank < four)
        ranks[at] = newer - (rank < of_one) - (rank < of_two) - (rank < of_three) - (rank < of_four)


@built_in
def move_up_apart(lines: Any, needed: Any, ranks: Any, bases: Any, number: int) -> None:
    """As ``move_up``, of experts in stacks apart, whose ranks begin at different ``bases``
    uint16[room], ascending as experts do; behind the ``number`` all is 0, too.
    """
    room = len(needed)
    for i in range(0, room, TOGETHER):
        for j in range(i, number if i > 0 else 0):  # those before have moved
            ranks[j] = lines[needed[j] // LANES, needed[j] % LANES]
        for at in range(len(lines)):
            _make_way_apart(lines[at], ranks[i : i + TOGETHER], bases[i : i + TOGETHER])
    for i in range(room):
        if i < number:
            expert, base = needed[i], bases[i]
            newer = base
            for j in range(room):
                newer += (needed[j] > expert) & (bases[j] == base)
            lines[expert // LANES, expert % LANES] = newer


@njit(types.void(_FLAT, _FLAT, _RANK, _RANK, _FLAT), cache=True, _nrt=False)
def _follow(offsets: Any, experts: Any, rank: Any, distances: Any, again: Any) -> None:
    """As ``Recency`` says; ``again`` is not counted where it has no elements."""
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        newest = False
        for i in range(low, high):
            distance = rank[experts[i]]
            distances[i] = distance
            newest |= distance == 0
        if newest and len(again) > 0:  # rule (c): all are needed, and the first activation misses
            needed, longer = 0, True
            while longer:
                needed += 1
                longer = False
                for i in range(low, high):
                    longer |= rank[experts[i]] == needed
            again[min(needed, rank[experts[low]])] += 1
        for i in range(low, high, TOGETHER):
            _make_way(
                rank, len(rank), rank[experts[i]], _rank_of(rank, experts, i + 1, high),
                _rank_of(rank, experts, i + 2, high), _rank_of(rank, experts, i + 3, high),
            )  # fmt: skip
        for i in range(low, high):  # behind the rest: vectors do not wait for what is written last
            rank[experts[i]] = high - 1 - i


@njit(types.void(_TABLE, _TABLE, _RANKS, _RANKS), cache=True)
def follow_all(offsets: Any, experts: Any, ranks: Any, distances: Any) -> None:
    """Fill in ``distances`` [works, active experts] of works that need ``experts`` [works, active
    experts], by the ``ranks`` [works, experts] so far, which become those after them.
    """
    nothing = np.empty(0, np.int64)
    for work in range(len(offsets)):
        _follow(offsets[work], experts[work], ranks[work], distances[work], nothing)


class Recency:
    """The experts of a layer by their last use, told its steps in order, from empty slots.

    At the start of every step the slots hold the experts used last, also where the step before
    needed more experts than fit: what it evicts by rule (b) is what it used first. So a needed
    expert is a hit if it is among the ``slots`` most recent ones at the start of its step (Mattson
    et al. 1970, with the stack taken there). But if these are all needed and the first activation
    misses, rule (c) evicts one of them before its activation: ``again`` int64[experts + 1] counts
    these.
    """

    def __init__(self, experts: int) -> None:
        self._rank = np.full(experts, experts, np.uint16)
        self.again = np.zeros(experts + 1, np.int64)

    def stack_distances(self, active: ActiveExperts) -> StackDistances:
        """How many experts were used after each active expert's own, uint16[active experts]; of one
        that was never used ``experts``.
        """
        distances = np.empty(len(active.experts), np.uint16)
        _follow(active.offsets, active.experts, self._rank, distances, self.again)
        return distances


def lru_misses(active: ActiveExperts, experts: int) -> Ints:
    """Misses int64[experts] with 1, 2, ... slots under LRU, from empty slots."""
    recency = Recency(experts)
    distances = np.bincount(recency.stack_distances(active), minlength=experts + 1)
    return at_least(distances) + at_least(recency.again)


def at_least(counts: Ints) -> Ints:
    """Of counts int64[experts + 1] by number, how many are at least 1, 2, ...: int64[experts]."""
    sums: Ints = counts[::-1].cumsum()[::-1][1:]
    return sums
