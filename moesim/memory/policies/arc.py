"""Adaptive replacement cache."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.memory.policy import LAST_USE, NEVER, ROWS, CachePolicy
from moesim.runtime.compiled import njit

LIST, LEFT, SLOTS, TARGET, FROM, FORGETS, ONCE, TWICE, RECENT, FREQUENT = range(ROWS, ROWS + 10)
"""The list of each expert, and the activation of its eviction; in column 0 the slots, the target
size p of T1, the list from which REPLACE takes, whether the victim leaves no ghost, and how many
experts are in T1, T2, B1 and B2.
"""
NOWHERE, T1, T2, B1, B2 = range(5)


@njit(cache=True)
def _put(state: Any, expert: int, into: int) -> None:
    """Move ``expert`` to the list ``into``."""
    of = state[LIST, expert]
    state[ONCE, 0] += into == T1
    state[ONCE, 0] -= of == T1
    state[TWICE, 0] += into == T2
    state[TWICE, 0] -= of == T2
    state[RECENT, 0] += into == B1
    state[RECENT, 0] -= of == B1
    state[FREQUENT, 0] += into == B2
    state[FREQUENT, 0] -= of == B2
    state[LIST, expert] = into


@njit(cache=True)
def _drop_oldest(state: Any, ghosts: int) -> None:
    least, place = NEVER, 0  # in vectors; no two are evicted at once
    for e in range(state.shape[1]):
        least = min(least, state[LEFT, e] if state[LIST, e] == ghosts else NEVER)
    if least == NEVER:
        return
    while state[LIST, place] != ghosts or state[LEFT, place] != least:
        place += 1
    _put(state, place, NOWHERE)


@njit(cache=True)
def _adapt(state: Any, came_from: int, recent: int, frequent: int) -> None:
    """Move the target towards the list whose ghost came back (cases II and III), of so many."""
    slots = state[SLOTS, 0]
    if came_from == B1:
        state[TARGET, 0] = min(slots, state[TARGET, 0] + max(frequent // recent, 1))
    elif came_from == B2:
        state[TARGET, 0] = max(0, state[TARGET, 0] - max(recent // frequent, 1))


class Arc(CachePolicy):
    """Evict the oldest of two lists, experts used once (T1) and used again (T2), whose sizes adapt
    to the evicted ones that come back (Megiddo and Modha, FAST 2003).

    REPLACE names a list, and the key puts that list's candidates first, by last use; where it has
    none the other list gives. A hit moves an expert to T2, preloaded experts begin in T1, and an
    expert that rule (c) evicts becomes a ghost like any other. Steps of the target are whole slots,
    rounded down but at least 1.
    """

    kind: Literal["arc"] = "arc"
    memory: ClassVar[int] = 10
    lists: ClassVar[bool] = True

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Note the slots; what is resident is in T1."""
        del layers
        state[SLOTS] = slots
        state[LIST] = np.where(resident, T1, NOWHERE)
        state[ONCE] = np.count_nonzero(resident)

    @staticmethod
    def before_activation(
        expert: Any, hit: Any, step: Any, layer: Any, weight: Any, state: Any
    ) -> None:
        """At a miss: adapt, shorten the ghosts, and say from which list REPLACE takes."""
        if hit:
            return
        came_from, slots = state[LIST, expert], state[SLOTS, 0]
        once, twice = state[ONCE, 0], state[TWICE, 0]
        recent, frequent = state[RECENT, 0], state[FREQUENT, 0]
        _adapt(state, came_from, recent, frequent)
        target = state[TARGET, 0]
        of_once = once > 0 and (once > target or (came_from == B2 and once == target))
        state[FORGETS, 0] = 0
        if came_from == NOWHERE:
            first = once + recent
            if first == slots and once == slots:
                of_once, state[FORGETS, 0] = True, 1
            elif first == slots:
                _drop_oldest(state, B1)
            elif first + twice + frequent == 2 * slots:
                _drop_oldest(state, B2)
        state[FROM, 0] = T1 if of_once else T2

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """Move the victim to its ghosts, and the expert to its list."""
        if victim >= 0:
            ghosts = B1 if state[LIST, victim] == T1 else B2
            _put(state, victim, NOWHERE if state[FORGETS, 0] == 1 else ghosts)
            state[LEFT, victim] = now
        _put(state, expert, T1 if state[LIST, expert] == NOWHERE else T2)

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """REPLACE's list first, then the activation of the last use."""
        other = 0 if state[LIST, expert] == state[FROM, 0] else 1
        return (other << 56) + state[LAST_USE, expert]
