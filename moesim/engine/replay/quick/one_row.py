"""Runs of one GPU whose passes have a row each, under LRU: a layer of a pass is one launch of the
row's experts, each for that row, and what it misses follows from where they stand in the stack, so
that nothing is kept of each activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.layer_work import LayerWork
from moesim.engine.marks import is_marked
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launches
from moesim.engine.replay.quick.activations import ACCESS_HITS, ACTIVATED, COUNTED_HERE, HITS
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.ones import OnesLaunches
from moesim.engine.replay.quick.shared import Shared
from moesim.engine.replay.quick.stack_distances import follow_stack
from moesim.engine.replay.spans import IDS
from moesim.engine.residency.residencies import Residencies
from moesim.memory.curves.recency import LANES, TOGETHER, move_up
from moesim.memory.policies.lru import Lru
from moesim.runtime.compiled import njit, specialised, types
from moesim.trace.routing import NO_EXPERT

MORE_THAN_ANY = np.iinfo(np.uint16).max
"""The slots of a layer whose experts are all resident: more than any stack distance."""

_FLAT, _MASKS = types.int64[::1], types.boolean[:, ::1]
_LINE, _TABLE, _CUBE = types.uint16[::1], types.uint16[:, ::1], types.uint16[:, :, ::1]


@njit(types.boolean(IDS, _FLAT, _MASKS), cache=True, _nrt=False)
def _choose_apart(ids: Any, rows: Any, near: Any) -> bool:
    """Whether ``rows`` choose k different experts in each layer; ``near`` bool[k - 1, layers x k]:
    whether a choice and the one so many places (and 1) behind it are of one layer.
    """
    choices, alike = ids.shape[1] * ids.shape[2], False
    for row in rows:
        line = ids[row].reshape(choices)
        for i in range(choices):
            alike |= line[i] == NO_EXPERT
        for other in range(len(near)):
            of_layer = near[other]
            for i in range(choices - other - 1):
                alike |= (line[i] == line[i + other + 1]) & of_layer[i]
    return not alike


MISS_STEPS = types.void(IDS, _FLAT, _TABLE, _LINE, _CUBE, _TABLE, _TABLE)
"""The signature of what ``miss_steps_with`` makes."""


def miss_steps_with(room: int) -> Callable[..., None]:
    """What counts misses where rows choose at most ``room`` experts, a multiple of TOGETHER: it is
    known when that is compiled, so that its loops over experts are none.
    """

    def miss_steps(
        ids: Any, rows: Any, home: Any, slots: Any, stacks: Any, scratch: Any, misses: Any
    ) -> None:
        """Fill in the ``misses`` uint16[passes, layers] of passes that have one of the ``rows``
        each, whose experts are ``home`` uint16[layers, experts]. ``slots`` uint16[layers],
        ``stacks`` of each layer as ``move_up`` has them, ``scratch`` uint16[2, room] of zeros.
        """
        _, layers, top_k = ids.shape
        needed, ranks = scratch
        for step in range(len(rows)):
            row = rows[step]
            for layer in range(layers):
                missed, lines = 0, stacks[layer]
                for i in range(room):
                    if i < top_k:
                        expert = needed[i] = home[layer, ids[row, layer, i]]
                        rank = ranks[i] = lines[expert // LANES, expert % LANES]
                        missed += rank >= slots[layer]
                misses[step, layer] = missed
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


def chosen_apart(ids: NDArray[np.uint16], rows: Ints) -> bool:
    """Whether ``rows`` of ``ids`` uint16[rows, MoE layers, k] choose as many experts as they may in
    each layer, none of them twice.
    """
    _, layers, top_k = ids.shape
    place, other = np.arange(layers * top_k) % top_k, np.arange(1, top_k)
    return bool(_choose_apart(ids, rows, place < top_k - other[:, None]))


def choose_apart(case: Case) -> bool:
    """Whether what all tokens of ``case`` choose is ``chosen_apart``."""
    return chosen_apart(case.trace.expert_ids, case.schedule.routing_rows)


class OneRow:
    """Makes the runs of a case that it ``takes``, whose rows ``choose_apart``."""

    masks = None
    counted: tuple[str, ...] = COUNTED_HERE

    def __init__(self, shared: Shared, launches: OnesLaunches, provenance: Provenance) -> None:
        case, finder = shared.case, shared.finder
        self.shared, self.launches, self.provenance = shared, launches, provenance
        finder.know_all()
        self.top_k = case.trace.top_k
        self.copies = np.zeros(finder.layers, np.int64)
        self._miss_steps = miss_steps_of(self.top_k)
        self._home = finder.home.astype(np.uint16)
        slots = np.where(case.resident(0), MORE_THAN_ANY, case.slots[0])
        self._slots = slots.astype(np.uint16)
        lines = (finder.layers, -(-finder.width // LANES), LANES)
        self._stacks = np.full(lines, finder.width, np.uint16)
        if case.initial != "empty":
            self._fill()
        self._scratch = np.zeros((2, room_for(self.top_k)), np.uint16)
        self._kernel_ns = launches.ones_ns[launches.kinds, self.top_k]

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
        """Whether ``case``, which decides alone, is one, but for what its rows choose."""
        return (
            type(case.policy) is Lru
            and case.gpus == 1
            and case.kernels != "serial"
            and not is_marked(case)
            and not case.model.has_encoder
            and not case.placement.has_replicas
            and follow_stack(case, filled=True)
            and (int(case.slots.min()) >= case.trace.top_k or not case.miss.loads)
            and bool((np.diff(case.schedule.offsets) == 1).all())
        )

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: nothing is held by expert, so that all are one run."""
        yield first, last

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder, launches = self.shared.finder, self.launches
        ids, rows, _, _ = self.shared.finder.tokens(first, last)
        misses = np.empty((last - first, finder.layers), np.uint16)
        self._miss_steps(ids, rows, self._home, self._slots, self._stacks, self._scratch, misses)
        self.copies += misses.sum(axis=0, dtype=np.int64)
        np.add.at(launches.ones[:, self.top_k], launches.kinds, last - first)
        missed = misses if finder.kept > 1 else misses.sum(axis=1, keepdims=True, dtype=np.int64)
        chosen = np.int64(self.top_k * (finder.layers // finder.kept))
        counts = np.empty((len(self.counted), *missed.shape, 1), np.int64)
        counts[ACTIVATED], counts[HITS, :, :, 0] = chosen, chosen - missed
        counts[ACCESS_HITS] = counts[HITS]
        works = Launches(self._kernel_ns, misses)
        return Made(np.broadcast_to(chosen, counts[ACTIVATED].shape), counts, works, 1)

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
