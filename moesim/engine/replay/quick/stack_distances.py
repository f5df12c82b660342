"""Where needed experts stand in the stack of a policy: one pass for all numbers of slots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.replay.activation_index import Needed
from moesim.engine.replay.log import Parts
from moesim.engine.replay.quick.reuse import Reuse
from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.order import costs_ahead, order_of
from moesim.memory.curves.recency import follow_all
from moesim.memory.curves.stack import Stack
from moesim.memory.policies.lfu import Lfu
from moesim.memory.policies.lru import Lru
from moesim.memory.policies.min import Min

RUNS_BEFORE: dict[type, int] = {Lru: 0, Lfu: 5, Min: 5}
"""Runs of a policy that decide by themselves, as one pass for all sizes takes about as long as it
spares so many of them; of LRU it takes less than one.
"""
NONE = np.empty(0, np.int64)


def stack_distances_of(reuse: Reuse) -> StackDistances | None:
    """The stack distances of a case's active experts, where they pay, alone or with those of
    other runs, and decide all: slots that are empty at first and hold what any step needs, or all
    experts.
    """
    case, log = reuse.case, reuse.log
    before = RUNS_BEFORE.get(type(case.policy))
    if before is None or (before and not reuse.known) or not follow_stack(case):
        return None
    most = np.minimum(reuse.most(), _experts_of(reuse))
    if not (case.slots.T.ravel() >= most).all():
        return None
    key = (*reuse.key, "stack distances", type(case.policy))
    distances = StackDistances(reuse, most, Parts(log, key))
    return distances if distances.known or log is None or log.asked[key] >= before else None


def follow_stack(case: Case, *, filled: bool = False) -> bool:
    """Whether slots of ``case`` that hold what any step needs hold what is at the top of a stack,
    where its policy has one, which may be ``filled`` at first.
    """
    if case.schedule.grows:
        return False  # the slots would have to hold what passes need that nobody knows yet
    if not (filled or case.initial == "empty") or not case.offloaded or case.protect == "none":
        return False  # without protection a step may evict what it needs, whatever the slots
    # which of a step's experts was used last may depend on the slots
    return not isinstance(case.policy, Lru) or case.order == "id"


def _experts_of(reuse: Reuse) -> Ints:
    """int64[MoE layers x gpus]: the local experts of each."""
    return np.tile([len(local) for local in reuse.routing.local], reuse.finder.layers)


class StackDistances:
    """Stack distances of a case's active experts, told in order; ``most`` experts are what a step
    needs.
    """

    def __init__(self, reuse: Reuse, most: Ints, parts: Parts) -> None:
        self._parts, self.by_next_use = parts, reuse.case.policy.looks_ahead
        self._experts, width = _experts_of(reuse).tolist(), reuse.finder.width
        self._ranks = np.full((len(most), width), width, np.uint16)
        """Of LRU, how many experts were used after each one; ``width``: it was never used."""
        self._stacks: list[Stack] = []
        for experts, least in zip(self._experts, most.tolist(), strict=True):
            if (order := order_of(reuse.case.policy, np.zeros(experts, np.int64))) is not None:
                self._stacks.append(Stack(order, max(least, 1)))

    @property
    def known(self) -> bool:
        """Whether an earlier run left them."""
        return self._parts.known

    def of(self, first: int, found: Needed, next_use: Ints) -> NDArray[np.uint16]:
        """Stack distances uint16[MoE layers x gpus, most active experts] of a run of passes from
        ``first`` on.
        """
        (distances,) = self._parts.arrays(first, lambda: (self._followed(found, next_use),))
        return distances

    def _followed(self, found: Needed, next_use: Ints) -> NDArray[np.uint16]:
        distances = np.zeros(found.experts.shape, np.uint16)
        if not self._stacks:
            follow_all(found.offsets, found.experts, self._ranks, distances)
        for work, stack in enumerate(self._stacks):
            number, after = found.offsets[work, -1], NONE
            active = ActiveExperts(found.offsets[work], found.experts[work, :number])
            if self.by_next_use:
                count = self._experts[work]
                after = costs_ahead(next_use[work, :number], active.experts, count)
            distances[work, :number] = stack.stack_distances(active, after)
        return distances

    def end(self) -> None:
        """The run is over: leave them in the log."""
        self._parts.end()
