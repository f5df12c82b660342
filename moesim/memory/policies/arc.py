"""Adaptive replacement cache."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.memory.policy import NEVER, ROWS, CachePolicy
from moesim.runtime.compiled import njit

(LIST, USED, LEFT, SLOTS, TARGET, FROM, FORGETS, ONCE, TWICE, RECENT,
 FREQUENT) = range(ROWS, ROWS + 11)  # fmt: skip
"""The list of each expert, when it was used last (AGAIN more in T2), and when it was evicted, with
its number; in column 0 the slots, the target size p of T1, 0 or AGAIN for the list from which
REPLACE takes, T1 or T2, whether the victim leaves no ghost, and how many experts are in T1, T2, B1
and B2.
"""
NOWHERE, T1, T2, B1, B2 = range(5)
AGAIN = 1 << 56
NUMBERS = 1 << 20
"""More than any expert's number."""


@njit(cache=True)
def _drop_oldest(state: Any, ghosts: int) -> None:
    least = NEVER  # in vectors; no two are evicted at once
    for e in range(state.shape[1]):
        least = min(least, state[LEFT, e] if state[LIST, e] == ghosts else NEVER)
    if least < NEVER:
        state[LIST, least % NUMBERS] = NOWHERE
        state[RECENT, 0] -= ghosts == B1
        state[FREQUENT, 0] -= ghosts == B2


@njit(cache=True)
def _adapt(state: Any, came_from: int, recent: int, frequent: int) -> None:
    """Move the target towards the list whose ghost came back (cases II and III), of so many."""
    slots = state[SLOTS, 0]
    if came_from == B1:
        state[TARGET, 0] = min(slots, state[TARGET, 0] + max(frequent // recent, 1))
    elif came_from == B2:
        state[TARGET, 0] = max(0, state[TARGET, 0] - max(recent // frequent, 1))


@njit(cache=True)
def _become_ghost(state: Any, victim: int, now: int) -> None:
    """The ``victim`` leaves its list for its ghosts, unless it leaves none."""
    of_once, forgets = state[LIST, victim] == T1, state[FORGETS, 0]
    state[ONCE, 0] -= of_once
    state[TWICE, 0] -= not of_once
    state[RECENT, 0] += of_once > forgets
    state[FREQUENT, 0] += (not of_once) > forgets
    state[LIST, victim] = NOWHERE if forgets else B1 if of_once else B2
    state[LEFT, victim] = now * NUMBERS + victim


class Arc(CachePolicy):
    """Evict the oldest of two lists, experts used once (T1) and used again (T2), whose sizes adapt
    to the evicted ones that come back (Megiddo and Modha, FAST 2003).

    REPLACE names a list, and the key puts that list's candidates first, by last use; where it has
    none the other list gives. A hit moves an expert to T2, preloaded experts begin in T1, and an
    expert that rule (c) evicts becomes a ghost like any other. Steps of the target are whole slots,
    rounded down but at least 1.
    """

    kind: Literal["arc"] = "arc"
    memory: ClassVar[int] = 11
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
        target, first = state[TARGET, 0], once + recent
        of_once = once > 0 and (once > target or (came_from == B2 and once == target))
        new = came_from == NOWHERE
        forgets = new and once == slots and recent == 0
        if new and not forgets and (first == slots or first + twice + frequent == 2 * slots):
            _drop_oldest(state, B1 if first == slots else B2)
        state[FORGETS, 0] = forgets
        state[FROM, 0] = 0 if of_once or forgets else AGAIN

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """Move the victim to its ghosts, and the expert to its list."""
        if victim >= 0:
            _become_ghost(state, victim, now)
        of = state[LIST, expert]
        if of != T2:
            state[ONCE, 0] += of == NOWHERE
            state[ONCE, 0] -= of == T1
            state[TWICE, 0] += of != NOWHERE
            state[RECENT, 0] -= of == B1
            state[FREQUENT, 0] -= of == B2
            state[LIST, expert] = T1 if of == NOWHERE else T2
        state[USED, expert] = now + 1 + (0 if of == NOWHERE else AGAIN)

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """REPLACE's list first, then the activation of the last use."""
        return state[USED, expert] ^ state[FROM, 0]
