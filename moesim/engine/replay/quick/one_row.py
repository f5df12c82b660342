"""Runs of one GPU whose passes have a row each, under LRU: a layer of a pass is one launch of the
row's experts, each for that row, and what it misses follows from where they stand in the stack, so
that nothing is kept of each activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launches
from moesim.engine.replay.quick.activations import (
    ACCESS_HITS,
    ACTIVATED,
    COUNTED_HERE,
    HITS,
    MARKED_FROM,
)
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_launch import may_have_one_launch
from moesim.engine.replay.quick.ones import OnesLaunches
from moesim.engine.replay.quick.shared import Shared
from moesim.engine.replay.quick.stack_distances import follow_stack
from moesim.engine.replay.spans import IDS
from moesim.engine.residency.residencies import Residencies
from moesim.memory.curves.recency import LANES, TOGETHER, move_up
from moesim.memory.policies.lru import Lru
from moesim.runtime.compiled import record, specialised, types

MORE_THAN_ANY = np.iinfo(np.uint16).max
"""The slots of a layer whose experts are all resident: more than any stack distance."""

_FLAT = types.int64[::1]
_LINE, _TABLE, _CUBE = types.uint16[::1], types.uint16[:, ::1], types.uint16[:, :, ::1]


class Missed(NamedTuple):
    """What is filled in: ``misses`` uint16[passes, layers], which are taken from ``hits``
    int64[passes, layers or 1] and added to ``copies`` int64[layers].
    """

    misses: Any
    hits: Any
    copies: Any


MISSED = record(Missed, _TABLE, types.int64[:, ::1], _FLAT)
MISS_STEPS = types.void(IDS, _FLAT, _TABLE, _LINE, _CUBE, _TABLE, MISSED)
"""The signature of what ``miss_steps_with`` makes."""


def miss_steps_with(room: int) -> Callable[..., None]:
    """What counts misses where rows choose at most ``room`` experts, a multiple of TOGETHER: it is
    known when that is compiled, so that its loops over experts are none.
    """

    def miss_steps(
        ids: Any, rows: Any, home: Any, slots: Any, stacks: Any, scratch: Any, out: Any
    ) -> None:
        """What is ``Missed`` by passes that have one of the ``rows`` each, whose experts are in a
        stack at ``home`` uint16[layers, experts]. ``slots`` uint16[layers], ``stacks`` of each
        layer, or one of all, as ``move_up`` has them, ``scratch`` uint16[2, room] of zeros.
        """
        _, layers, top_k = ids.shape
        needed, ranks, apart = scratch[0], scratch[1], out.hits.shape[1] > 1
        for step in range(len(rows)):
            row = rows[step]
            for layer in range(layers):
                missed, lines = 0, stacks[layer if len(stacks) > 1 else 0]
                for i in range(room):
                    if i < top_k:
                        expert = needed[i] = home[layer, ids[row, layer, i]]
                        rank = ranks[i] = lines[expert // LANES, expert % LANES]
                        missed += rank >= slots[layer]
                out.misses[step, layer] = missed
                out.hits[step, layer if apart else 0] -= missed
                out.copies[layer] += missed
                move_up(lines, needed, ranks, top_k, room)

    return miss_steps


@lru_cache
def _compiled(room: int) -> Any:
    return specialised(miss_steps_with, MISS_STEPS, constants=(room,), allocates=False)


def miss_steps_of(top_k: int) -> Any:
    """``miss_steps`` of rows that choose so many experts, compiled; kept on disk."""
    return _compiled(room_for(top_k))


def room_for(top_k: int) -> int:
    """Room for so many experts, which are moved up some at a time."""
    return -(-top_k // TOGETHER) * TOGETHER


def numbered_as_they_are(case: Case) -> bool:
    """Whether the one GPU of ``case`` has experts in the order of their numbers."""
    logical = case.placement.logical
    return bool((logical == np.arange(logical.shape[1])).all())


class OneRow:
    """Makes the runs of a case that it ``takes``, each of whose passes ``have_one_launch``."""

    masks = None
    counted: tuple[str, ...] = COUNTED_HERE

    def __init__(self, shared: Shared, launches: OnesLaunches, provenance: Provenance) -> None:
        case, finder = shared.case, shared.finder
        self.shared, self.launches, self.provenance = shared, launches, provenance
        finder.know_all()
        self.top_k = case.trace.top_k
        self.copies = np.zeros(finder.layers, np.int64)
        self._miss_steps = miss_steps_of(self.top_k)
        self._home, stacks, experts = finder.home.astype(np.uint16), finder.layers, finder.width
        slots = np.where(case.resident(0), MORE_THAN_ANY, case.slots[0])
        if case.policy.scope == "global":
            self._home += (experts * np.arange(stacks, dtype=np.uint16))[:, None]
            stacks, experts = 1, experts * stacks
            slots = np.full(finder.layers, case.slots.sum())
        self._slots = slots.astype(np.uint16)
        self._stacks = np.full((stacks, -(-experts // LANES), LANES), experts, np.uint16)
        if case.initial != "empty":
            self._fill()
        self._scratch = np.zeros((2, room_for(self.top_k)), np.uint16)

    def _fill(self) -> None:
        """Slots hold experts at the start; of those that have not been used the lowest goes
        first.
        """
        residencies = Residencies(self.shared.case, self.shared.routing)
        for (layer, _), cache in residencies.caches.items():
            experts = np.flatnonzero(cache.resident)
            stack = self._stacks[layer].reshape(-1)
            stack[experts] = np.arange(len(experts))[::-1]

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether ``case`` is one, if its passes ``have_one_launch``. A layer that is resident
        takes no slots of a pool, which one stack would not know.
        """
        return (
            type(case.policy) is Lru
            and not (case.policy.scope == "global" and case.resident(0).any())
            and follow_stack(case, filled=True)
            and case.room(0) is None
            and int(case.slots.sum()) + case.placement.logical.size < MORE_THAN_ANY
            and may_have_one_launch(case)
        )

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: nothing is held by expert, so that all are one run."""
        yield first, last

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder, passes = self.shared.finder, last - first
        ids, rows, _, _ = finder.tokens(first, last)
        chosen = self.top_k * (finder.layers // finder.kept)
        counts = np.full((len(self.counted), passes, finder.kept, 1), chosen)
        misses = np.empty((passes, finder.layers), np.uint16)
        out = Missed(misses, counts[HITS, :, :, 0], np.zeros_like(self.copies))
        self._miss_steps(ids, rows, self._home, self._slots, self._stacks, self._scratch, out)
        counts[ACCESS_HITS] = counts[HITS]
        self.copies += out.copies
        works = Launches(self.launches.of_rows(passes, self.top_k), misses, int(out.copies.sum()))
        return Made(counts[ACTIVATED], counts, works, 1)

    def _counted(self, misses: NDArray[np.uint16], *more: NDArray[np.uint16]) -> tuple[Ints, Ints]:
        """Rows that are executed, and counts as ``Maker`` has them, with what is counted ``more``,
        each as ``misses`` uint16[passes, MoE layers].
        """
        finder = self.shared.finder
        missed, *others = (
            one if finder.kept > 1 else one.sum(axis=1, keepdims=True, dtype=np.int64)
            for one in (misses, *more)
        )
        chosen = np.int64(self.top_k * (finder.layers // finder.kept))
        counts = np.empty((len(self.counted), *missed.shape, 1), np.int64)
        counts[ACTIVATED], counts[HITS, :, :, 0] = chosen, chosen - missed
        counts[ACCESS_HITS] = counts[HITS]
        for column, one in enumerate(others, MARKED_FROM):
            counts[column, :, :, 0] = one
        return np.broadcast_to(chosen, counts[ACTIVATED].shape), counts

    def mark(self) -> Any:
        """Nothing is played before it is known."""

    def back(self, mark: Any) -> None:
        """As ``mark`` says."""

    def end(self) -> None:
        """As ``Maker`` says: others find out sooner what it found than they read it."""

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        self.launches.settle(self.provenance)
        for layer, number in enumerate(self.copies.tolist()):
            work.count_copies(layer, [number])
