"""A run without its clock whose active experts compiled code finds in the trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.fates import NONE_DROPPED
from moesim.engine.layout import Active
from moesim.engine.program import Program, RoutedPasses
from moesim.engine.replay.activation_index import Finder, Needed, counts_choices
from moesim.engine.replay.collectives import Collectives
from moesim.engine.routing import Key
from moesim.gating.dynamic import Dynamic
from moesim.memory.activations import ActiveExperts

NONE = np.empty(0, np.int64)


def is_indexed(case: Case) -> bool:
    """Whether rows of ``case`` are its tokens' choices, each on one GPU, and none is dropped."""
    return type(case.gating) is Dynamic and case.rebalance is None and counts_choices(case)


def stays(case: Case) -> bool:
    """Whether each expert is on one GPU for the whole run."""
    return not case.placement.has_replicas and case.rebalance is None


class IndexedProgram(Program):
    """``Program`` of a case that ``is_indexed``."""

    held = 16

    def __init__(self, case: Case, *, by_layer: bool = True) -> None:
        super().__init__(case, by_layer=by_layer)
        self._found: Needed
        if type(self) is IndexedProgram and self.ledger is None and self.views is None:
            self.tokens = 0  # no choice is held
        self.finder = Finder(self.case, self.routing, by_layer=False)
        self.collectives = Collectives(self.case, self.finder, self.provenance)

    def mark(self) -> tuple[Any, ...]:
        """As in ``Program``."""
        return super().mark(), self.collectives.known.uses()

    def back(self, mark: tuple[Any, ...]) -> None:
        """As in ``Program``."""
        super().back(mark[0])
        self.collectives.known.used_as(mark[1])

    def settle(self) -> None:
        """As in ``Program``."""
        self.collectives.settle()
        super().settle()

    def _routed(self, first: int, last: int) -> RoutedPasses:
        gpus, found = self.case.gpus, self.finder.active_experts(first, last)
        self._found = found
        kept, works = self.finder.choices(first, last), {}
        weighs = self.case.skips and self.case.trace.gate_weights is not None
        weights = self.finder.weights(first, found) if weighs else None
        lost = np.zeros((last - first, len(self.routing.moe_layers), 2), np.int64)
        for key in self.keys():
            work = key[0] * gpus + key[1]
            experts, rows = (
                one[work, : found.offsets[work, -1]] for one in (found.experts, found.rows)
            )
            weight = NONE if weights is None else weights[work, : len(experts)]
            works[key] = Active(found.offsets[work], experts, rows, rows, weight)
            if weights is not None:
                until = np.concatenate(([0], np.cumsum(weight)))[found.offsets[work]]
                lost[:, key[0], 1] += np.diff(until)
        none = np.zeros((last - first, len(self.routing.moe_layers)), np.int64)
        both = self.collectives.prices(first, last) if gpus > 1 else ()
        dispatch, combine = map(list, both or ((), ()))
        return RoutedPasses(kept, none, none, lost, works, (dispatch, combine), NONE_DROPPED)

    def _needed(self, first: int, last: int) -> dict[Key, ActiveExperts]:
        """As in ``Program``."""
        found, gpus = self.finder.active_experts(first, last), self.case.gpus
        works = {key: key[0] * gpus + key[1] for key in self.keys()}
        return {
            key: ActiveExperts(offsets, found.experts[work, : offsets[-1]])
            for key, work in works.items()
            for offsets in (found.offsets[work],)
        }

    def _marks(self, first: int, works: dict[Key, Active]) -> dict[Key, Ints]:
        """As in ``Program``, where experts are as they were found."""
        if self.case.order == "least_makespan":
            return super()._marks(first, works)
        gpus, marks = self.case.gpus, self.finder.marks(first, self._found).astype(np.int64)
        return {
            (layer, gpu): marks[layer * gpus + gpu, : len(one.experts)]
            for (layer, gpu), one in works.items()
        }
