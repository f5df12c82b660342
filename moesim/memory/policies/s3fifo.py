"""S3-FIFO: three queues."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.policy import ROWS, CachePolicy
from moesim.runtime.compiled import njit

QUEUE, ENTERED, USES, COUNTER, OF_SMALL, OF_GHOSTS, FROM = range(ROWS, ROWS + 7)
"""The queue of each expert, its place there (the least is the tail) and its uses since; in column 0
the next place, the sizes of the small queue and of the ghosts, and the queue that has to give."""
NOWHERE, SMALL, MAIN, GHOST, MOVED = range(5)
MOST_USES = 3
COLD_USES = 1


@njit(cache=True)
def _size(state: Any, queue: int) -> Any:
    number = 0
    for e in range(state.shape[1]):
        number += state[QUEUE, e] == queue
    return number


@njit(cache=True)
def _enter(state: Any, expert: int, queue: int) -> None:
    state[QUEUE, expert], state[USES, expert] = queue, 0
    state[ENTERED, expert] = state[COUNTER, 0]
    state[COUNTER, 0] += 1


@njit(cache=True)
def _to_head_of_main(state: Any) -> None:
    """Put the MOVED at the head of the main queue, in their order."""
    low, high = state[COUNTER, 0], -1
    for e in range(state.shape[1]):
        if state[QUEUE, e] == MOVED:
            low, high = min(low, state[ENTERED, e]), max(high, state[ENTERED, e])
    if high < 0:
        return
    for e in range(state.shape[1]):
        if state[QUEUE, e] == MOVED:
            state[QUEUE, e] = MAIN
            state[ENTERED, e] += state[COUNTER, 0] - low
    state[COUNTER, 0] += high - low + 1


@njit(cache=True)
def _promote(state: Any, victim: int) -> None:
    """Move the hot of the small queue to the main one; up to ``victim`` if that is a cold one."""
    stops, place = state[QUEUE, victim] == SMALL, state[ENTERED, victim]
    stops = stops and state[USES, victim] <= COLD_USES
    for e in range(state.shape[1]):
        hot = state[QUEUE, e] == SMALL and state[USES, e] > COLD_USES
        if hot and (not stops or state[ENTERED, e] < place):
            state[QUEUE, e], state[USES, e] = MOVED, 0
    _to_head_of_main(state)


@njit(cache=True)
def _pass_by(state: Any, victim: int) -> None:
    """Take a use, round by round, from all that the main queue puts back before ``victim``."""
    rounds, place = state[USES, victim], state[ENTERED, victim]
    for e in range(state.shape[1]):
        if state[QUEUE, e] == MAIN:
            ahead = state[ENTERED, e] < place
            state[USES, e] = max(state[USES, e] - rounds - ahead, 0)
            if ahead:
                state[QUEUE, e] = MOVED
    _to_head_of_main(state)


@njit(cache=True)
def _remember(state: Any, victim: int) -> None:
    """Make ``victim`` a ghost, and forget the oldest ghost where there are too many."""
    _enter(state, victim, GHOST)
    if _size(state, GHOST) > state[OF_GHOSTS, 0]:
        oldest = victim
        for e in range(state.shape[1]):
            if state[QUEUE, e] == GHOST and state[ENTERED, e] < state[ENTERED, oldest]:
                oldest = e
        state[QUEUE, oldest] = NOWHERE


class S3fifo(CachePolicy):
    """Evict from a small queue of new experts, or from a main queue that puts back what was used,
    both first in, first out (Yang et al., SOSP 2023, Algorithm 1).

    An expert that leaves the small queue enters the main one if it was used more than once there,
    else it leaves a ghost; a ghost that comes back enters the main queue. Experts that are no
    candidates keep their place in the small queue; the main queue puts them back. Where one queue
    has no candidate, the other gives. Each miss evicts one expert; preloaded ones begin in the
    small queue, by id.
    """

    kind: Literal["s3fifo"] = "s3fifo"
    small: Percent = Field(
        default=0.1, description="Share of the slots that the small queue keeps, at least 1."
    )
    memory: ClassVar[int] = 7
    lists: ClassVar[bool] = True

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Size the queues; what is resident is in the small one."""
        del layers
        state[OF_SMALL] = max(int(self.small * slots + 1e-9), 1)
        state[OF_GHOSTS] = slots - state[OF_SMALL]
        for expert in np.flatnonzero(resident).tolist():
            _enter(state, expert, SMALL)

    @staticmethod
    def before_activation(
        expert: Any, hit: Any, step: Any, layer: Any, weight: Any, state: Any
    ) -> None:
        """Say which queue has to give."""
        if not hit:
            state[FROM, 0] = SMALL if _size(state, SMALL) >= state[OF_SMALL, 0] else MAIN

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """Count a use; else move what the search for the victim passed, and let the expert in."""
        if hit:
            state[USES, expert] = min(state[USES, expert] + 1, MOST_USES)
            return
        if victim >= 0:
            if SMALL in (state[FROM, 0], state[QUEUE, victim]):
                _promote(state, victim)
            if state[QUEUE, victim] == MAIN:
                _pass_by(state, victim)
                state[QUEUE, victim] = NOWHERE
            else:
                _remember(state, victim)
        _enter(state, expert, MAIN if state[QUEUE, expert] == GHOST else SMALL)

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The order in which the search ends at an expert: by uses left, then by place."""
        uses, rank = state[USES, expert], 0
        if state[QUEUE, expert] == SMALL:
            rank = 0 if uses <= COLD_USES else 2
            rank += 0 if state[FROM, 0] == SMALL else 2 + MOST_USES
        elif state[FROM, 0] == SMALL:
            rank = 1 if uses == 0 else 2 + uses
        else:
            rank = uses
        return (rank << 56) + state[ENTERED, expert]
