"""What decisions about a pool's slots are made of: rules, demand, cells, and who of some candidates
goes (docs/semantics.md); built for each policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.activations import Activations
from moesim.memory.policy import (
    ARRIVING,
    INSERTED,
    PINNED,
    THIS_LAYER,
    THIS_PASS,
)
from moesim.memory.policy_reads import Reads
from moesim.runtime.compiled import inlined, record, types, whole_number

ROUND = 32
"""Ranks that are compared side by side."""
CLOSED = np.iinfo(np.int64).max
"""What no candidate is ranked above."""


class Rules(NamedTuple):
    """By what all steps of a run are decided: ``most_loads`` of a step; how many ``layers`` share
    the slots in turn; whether experts run one by one, whether residents go first, whether the slots
    are ``emptied`` before each step, and whether experts may be pinned, or still be arriving;
    ``loads_of`` int64 as for ``split.divide``; whether a step ``protects`` what it needs.
    """

    most_loads: Any
    layers: Any
    serial: Any
    resident_first: Any
    emptied: Any
    prefetched: Any
    loads_of: Any
    protects: Any


class Demand(NamedTuple):
    """What steps need: ``offsets`` and ``experts`` as of ``ActiveExperts``; aligned with these, or
    empty where they are not read, next uses, gate weights and ``prices`` int64[OFFERED, active
    experts]; ``draws`` by activation of the run; and ``moved`` as for ``split.divide``.
    """

    offsets: Any
    experts: Any
    next_use: Any
    weights: Any
    prices: Any
    draws: Any
    moved: Any


class Cells(NamedTuple):
    """The slots of a pool while steps are decided: how many are ``used`` int64[1]; ``slot_of``
    int64[experts], -1 without. By keys of experts alone (``is_own``) slots are ranked, as these
    change seldom: ``ranks`` and
    ``expert_at`` int64[places], CLOSED where one is no candidate; else experts are candidates:
    which are ``idle`` bool[experts], and room for those that the step is done with, ``over``, and
    for ``keys``. Room for where each expert stands, ``index_of``; and where misses are divided
    ``planned`` int64[active experts] of ones, and room for a step's ``missing``.
    """

    used: Any
    slot_of: Any
    ranks: Any
    expert_at: Any
    idle: Any
    over: Any
    keys: Any
    index_of: Any
    planned: Any
    missing: Any


_FLAT, _MASK, _STATE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
_INT, _BOOL = types.int64, types.boolean
RULES = record(Rules, _INT, _INT, _BOOL, _BOOL, _BOOL, _BOOL, _FLAT, _BOOL)
DEMAND = record(Demand, _FLAT, _FLAT, _FLAT, _FLAT, _STATE, types.float64[::1], _STATE)
ACTIVATIONS = record(Activations, _FLAT, _MASK, _FLAT, _FLAT, _FLAT, _FLAT)
FIRST = types.int64(_MASK, _STATE, types.float64, _FLAT)
"""The signature of what ``first_with`` makes."""
NO_ROOM = -2
CELLS = record(Cells, *[_FLAT] * 4, _MASK, _MASK, *[_FLAT] * 4)
_TUPLE: Any = types.UniTuple
PLACE_AHEAD = types.int64(_MASK, _STATE, _TUPLE(_INT, 4), _MASK, types.float64, _FLAT)
"""The signature of what ``place_ahead_with`` makes."""
DECIDE_IN = types.int64(RULES, _INT, DEMAND, _MASK, _STATE, _TUPLE(_INT, 2), ACTIVATIONS, CELLS)
"""The signature of what ``decide_in_with`` makes."""


@inlined
def first_by(key: Any, candidates: Any, state: Any, draw: float, keys: Any) -> int:
    """The one of ``candidates`` bool[experts] with the least key, of equals the lowest id; -1 where
    there is none. ``keys`` int64[experts] is room.

    Done in vectors: what ``key`` does not read of count and position is not worked out.
    """
    count, position, least = 0, 0, CLOSED
    for c in range(len(candidates)):
        count += candidates[c]
    for c in range(len(candidates)):
        value = CLOSED
        if candidates[c]:
            value = whole_number(key(c, state, draw, position, count))
            position += 1
        keys[c] = value
        least = min(least, value)
    if least == CLOSED:  # no candidate, but for keys as high as that
        for c in range(len(candidates)):
            if candidates[c]:
                return c
        return -1
    place = CLOSED
    for c in range(len(candidates)):
        place = min(place, c if keys[c] == least else CLOSED)
    return int(place)


def first_with(key: Any) -> Callable[..., int]:
    """Which of some candidates goes, by ``key``."""

    def first(candidates: Any, state: Any, draw: float, keys: Any) -> int:
        """As ``first_by``."""
        return int(first_by(key, candidates, state, draw, keys))

    return first


def place_ahead_with(key: Any) -> Callable[..., int]:
    """What gives an expert a slot ahead, by ``key``."""

    def place_ahead(
        resident: Any, state: Any, what: tuple[int, int, int, int], busy: Any, draw: float,
        keys: Any,
    ) -> int:  # fmt: skip
        """Of so many slots give one, at the policy time, to an expert, pinned as is said (``what``,
        in this order): the victim, -1 without one; NO_ROOM where there is none. ``busy``
        bool[experts], or nothing, stay. ``keys`` int64[experts] is room.
        """
        (slots, now, expert, pin), experts, victim = what, len(resident), -1
        if np.count_nonzero(resident) >= slots:
            candidates = np.empty(experts, np.bool_)
            for e in range(experts):
                candidates[e] = resident[e] and state[PINNED, e] == 0
                if len(busy) > 0 and busy[e]:
                    candidates[e] = False
            victim = int(first_by(key, candidates, state, draw, keys))
            if victim < 0:
                return NO_ROOM
            resident[victim], state[ARRIVING, victim] = False, 0
        resident[expert] = True
        state[INSERTED, expert], state[PINNED, expert], state[ARRIVING, expert] = now, pin, 1
        return victim

    return place_ahead


@inlined
def lowest(ranks: Any, expert_at: Any) -> int:
    """As ``first_by``, of the experts ``expert_at`` their slots by the ``ranks`` of these, CLOSED
    where one is no candidate.
    """
    least, lowest = CLOSED, CLOSED
    for slot in range(len(ranks)):
        least = min(least, ranks[slot])
    if least == CLOSED:
        return -1
    for slot in range(len(ranks)):
        lowest = min(lowest, expert_at[slot] if ranks[slot] == least else CLOSED)
    return int(lowest)


def offer_with(key: Any, own: bool) -> Callable[..., None]:
    """What makes a candidate of an expert in a slot, by ``key``."""

    def offer(e: int, slot: int, ranks: Any, idle: Any, state: Any) -> None:
        """Let others have the ``slot`` of ``e``."""
        if own:
            ranks[slot] = min(whole_number(key(e, state, 0.0, 0, 0)), CLOSED - 1)
        else:
            idle[e] = True

    return offer


def open_with(key: Any, own: bool) -> Callable[..., None]:
    """What begins a run of steps of a policy with this ``key``."""
    offer = inlined(offer_with(key, own))

    def open_slots(rules: Any, cells: Any, resident: Any, state: Any) -> None:
        """Fill in ``cells`` as ``resident`` bool[experts] says."""
        used, slot_of, ranks, expert_at, idle, over = cells[:6]
        slot_of[:], ranks[:], idle[:], over[:] = -1, CLOSED, False, False
        slot = 0
        for e in range(len(resident)):
            if resident[e]:
                slot_of[e] = slot
                if own:
                    expert_at[slot] = e
                if not rules.prefetched or state[PINNED, e] == 0:
                    offer(e, slot, ranks, idle, state)
                slot += 1
        used[0] = slot

    return open_slots


def is_own(reads: Reads) -> bool:
    """Whether slots are ranked by keys of their experts alone."""
    told = [row in (reads.rows or ()) for row in (THIS_PASS, THIS_LAYER)]
    return reads.own and reads.rows is not None and not any(told)


@inlined
def places_of(used: int, slots: int, experts: int) -> int:
    """Places to rank slots in: the last one is that of experts without a slot, and never ranked.
    Vector instructions look at a round of places at once; of few they look at one by one.
    """
    places = max(used, min(slots, experts)) + 1
    return (places + ROUND - 1) // ROUND * ROUND if 2 * places > ROUND else places


@inlined
def new_cells(
    resident_first: bool, slots: int, active: int, experts: int, own: bool, splits: bool
) -> Any:
    """Cells for steps with so many ``active`` ones of a pool's ``experts``, in so many ``slots``;
    where more are resident, in as many as these.
    """
    places = places_of(0, slots, experts) if own else 0
    candidates = 0 if own else experts
    return Cells(
        np.zeros(1, np.int64), np.empty(experts, np.int64), np.empty(places, np.int64),
        np.zeros(places, np.int64), np.empty(candidates, np.bool_),
        np.empty(candidates, np.bool_), np.empty(candidates, np.int64),
        np.empty(experts if resident_first else 0, np.int64),
        np.ones(active if splits else 0, np.int64), np.empty(experts if splits else 0, np.int64),
    )  # fmt: skip
