"""Runs of one GPU whose passes have a row each, under LRU: a layer of a pass is one launch of the
row's experts, each for that row, and what it misses follows from where they stand in the stack, so
that nothing is kept of each activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched, play_loaded
from moesim.engine.replay.quick.activations import ACCESS_HITS, ACTIVATED, HITS
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Loading, Made, launched
from moesim.engine.replay.quick.one_launch import may_have_one_launch
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.stack_distances import follow_stack
from moesim.engine.replay.quick.sweeps import LOAD, Rule, Stacks, Swept, sweep_of
from moesim.engine.residency.residencies import Residencies
from moesim.memory.curves.recency import LANES, TOGETHER
from moesim.memory.policies.lru import Lru
from moesim.memory.slots.lru_list import lru_list_of

MANY = 8 * LANES
"""Experts in the order of their use that are not kept as a list, at most."""
MORE_THAN_ANY = np.iinfo(np.uint16).max
"""The slots of a layer whose experts are all resident: more than any stack distance."""


def room_of(case: Case) -> Any:
    """Room for what a layer chooses, and for what of it stays, uint16[2, 2, room]."""
    return np.zeros((2, 2, room_for(case.trace.top_k)), np.uint16)


def room_for(top_k: int) -> int:
    """Room for so many experts, which are moved up some at a time."""
    return -(-top_k // TOGETHER) * TOGETHER


def is_listed(case: Case) -> bool:
    """Whether slots of ``case`` are one pool of so many experts that a list is faster."""
    experts = case.placement.logical.size
    return case.policy.scope == "global" and case.offloaded and experts > MANY


def numbered_as_they_are(case: Case) -> bool:
    """Whether the one GPU of ``case`` has experts in the order of their numbers."""
    logical = case.placement.logical
    return bool((logical == np.arange(logical.shape[1])).all())


class OneRow(Loading):
    """Makes the runs of a case that it ``takes``, each of whose passes ``have_one_launch``."""

    becomes: ClassVar[int] = LOAD
    fewer: ClassVar[bool] = False
    """Whether some rows choose fewer experts than they may."""
    clock: ClassVar[Any] = staticmethod(play_loaded)

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        case = reuse.case
        self.top_k = case.trace.top_k
        self.times, self.rule = np.zeros((0, 0), np.int64), rule_of(0, 0)
        self._held = self._as_they_are()

    def _as_they_are(self) -> Any:
        """Where experts are at the start."""
        return stacks_of(self.reuse)

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether ``case`` is one, if its rows choose experts that differ."""
        stacks = not case.offloaded or has_stacks(case)
        return stacks and may_have_one_launch(case)

    @classmethod
    def launches_of(cls, case: Case) -> LaunchPrices:
        """See ``Loading``."""
        return LaunchPrices(case, case.trace.top_k)

    @classmethod
    def sweep_of(cls, case: Case) -> Any:
        """What sweeps passes of ``case``."""
        room, becomes = room_for(case.trace.top_k), cls.becomes_of(case)
        return sweep_of(room, becomes, listed=is_listed(case), fewer=cls.fewer)

    @classmethod
    def becomes_of(cls, case: Case) -> int:
        """What becomes of misses of ``case``."""
        del case
        return cls.becomes

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: nothing is held by expert, so that all are one run."""
        yield first, last

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder, passes = self.reuse.finder, last - first
        ids, rows, _, _ = finder.tokens(first, last)
        chosen = self.top_k * (finder.layers // finder.kept)
        counts = np.zeros((len(self.counted), passes, finder.kept, 1), np.int64)
        counts[ACTIVATED] = counts[HITS] = chosen
        swept = self._room(passes, counts)
        if self.reuse.case.offloaded:
            self._sweep(first, ids, rows, swept)
        counts[ACCESS_HITS] = counts[HITS]
        return Made(self._executed(counts), counts, self._launched(swept), 1)

    def _sweep(self, first: int, ids: NDArray[np.uint16], rows: Ints, swept: Swept) -> None:
        """Fill in what is swept of passes from ``first`` on, which have ``rows`` of ``ids``."""
        del first
        self.sweep_of(self.reuse.case)(ids, rows, self._held, self.rule, swept)

    def _executed(self, counts: Ints) -> Ints:
        """Rows that are computed."""
        executed: Ints = counts[ACTIVATED]
        return executed

    def _room(self, passes: int, counts: Ints) -> Swept:
        """What is swept of so many ``passes``."""
        misses, none = np.zeros((passes, self.reuse.finder.layers), np.uint16), np.empty(0, int)
        copies, no_reads = np.zeros_like(self.copies), misses[:0]
        return Swept(misses, misses[:0], counts, copies, self.times, none, none, no_reads, none)

    def _launched(self, swept: Swept) -> Launched:
        """What is to do."""
        self.copies += swept.copies
        kernel_ns = self.launches.of_rows(len(swept.misses), self.top_k)
        return launched(kernel_ns, swept.misses, int(swept.copies.sum()))


def stacks_of(reuse: Reuse) -> Stacks:
    """Where experts are at the start, none of which has been used; of those that are in slots the
    lowest goes first.
    """
    case, finder = reuse.case, reuse.finder
    home, stacks, experts = finder.home.astype(np.uint16), finder.layers, finder.width
    slots = np.where(case.resident(0), MORE_THAN_ANY, case.slots[0])
    if case.policy.scope == "global":
        home += (experts * np.arange(stacks, dtype=np.uint16))[:, None]
        stacks, experts = 1, experts * stacks
        slots = np.full(finder.layers, case.slots.sum())
    lines = np.full((stacks, -(-experts // LANES), LANES), experts, np.uint16)
    chooses, stays = room_of(case)
    there = in_slots_at_first(reuse).reshape(stacks, experts)
    found = Stacks(home, lines, slots.astype(np.uint16)[:, None], chooses, stays, chooses[0].copy())
    if is_listed(case):
        pool = lru_list_of(lines.reshape(-1), int(slots[0]), there[0])
        return found._replace(pool=pool, slots=np.ones_like(found.slots))
    for stack, of_stack in zip(lines.reshape(stacks, -1), there, strict=True):
        stack[:experts][of_stack] = np.arange(of_stack.sum())[::-1]
    return found


def in_slots_at_first(reuse: Reuse) -> NDArray[np.bool_]:
    """Which experts, as they lie, are in slots at the start, bool[MoE layers, experts]; none of
    layers that are resident.
    """
    case, finder = reuse.case, reuse.finder
    there = np.zeros((finder.layers, finder.width), np.bool_)
    if case.initial != "empty" and case.offloaded:
        for (layer, _), cache in Residencies(case, reuse.routing).caches.items():
            pool = slice(None) if case.policy.scope == "global" else slice(layer, layer + 1)
            there[pool] = cache.resident.reshape(-1, finder.width)
    return there


def has_stacks(case: Case) -> bool:
    """Whether a stack tells what ``case`` misses. A layer that is resident takes no slots of a
    pool, which one stack would not know.
    """
    return (
        type(case.policy) is Lru
        and not (case.policy.scope == "global" and case.resident(0).any())
        and follow_stack(case, filled=True)
        and case.room(0) is None
        and int(case.slots.sum()) + case.placement.logical.size < MORE_THAN_ANY
    )


def rule_of(layers: int, numbers: int) -> Rule:
    """A rule that is to be filled in."""
    return Rule(*np.zeros((2, layers, numbers), np.int64))
