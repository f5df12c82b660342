"""Activations, launches and copies of runs of passes, decided or as an earlier run has decided."""

from __future__ import annotations

import hashlib

import numpy as np

from moesim.engine.case import Ints
from moesim.engine.marks import MARKED, is_marked
from moesim.engine.replay.activation_index import Needed
from moesim.engine.replay.quick.activations import (
    COUNTED_HERE,
    Known,
    Order,
    ResidencyPlan,
    decide_all_of,
)
from moesim.engine.replay.quick.kept import CHANGING, kept_of, rules_of, with_draws
from moesim.engine.replay.quick.next_use import NextUse
from moesim.engine.replay.quick.recent import decide_by_recency, goes_by_recency
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.stack_distances import stack_distances_of
from moesim.engine.residency.residencies import Residencies


class Decider:
    """Decides a case, run of passes by run of passes; ``kinds`` int64[MoE layers] of layers, in
    whose order ``works`` int64[MoE layers x gpus] are taken.
    """

    def __init__(self, reuse: Reuse, kinds: Ints, works: Ints) -> None:
        case = reuse.case
        self.case, self.reuse = case, reuse
        self.order = Order(works, kinds, case.software.overlap)
        self.marked = is_marked(case)
        self.counted = (*COUNTED_HERE, *MARKED) if self.marked else COUNTED_HERE
        self._parts = reuse.decisions(
            case.order, case.protect, case.kernels == "serial", case.software.overlap,
            kinds.tobytes(), self._decodes(),
        )  # fmt: skip
        if not self._parts.known:
            self._begin()

    def _decodes(self) -> bytes:
        """Which tokens decode, where counts by mark depend on it."""
        served = self.case.schedule.served
        if not self.marked or served is None or self.reuse.log is None:
            return b""
        return hashlib.sha256(served.decodes.tobytes()).digest()

    def _begin(self) -> None:
        """What decides: stack distances, or caches."""
        case, reuse = self.case, self.reuse
        # which activation evicted an expert is not told by where it stands in a stack
        self.distances = None if self.marked else stack_distances_of(reuse)
        told = self.distances is not None and self.distances.known
        self.next_use: NextUse | None = None
        if case.policy.looks_ahead and case.offloaded and not told:
            self.next_use = reuse.next_use()
        self.residencies: Residencies | None = None
        if self.distances is None:
            self.residencies = Residencies(case, reuse.routing, self._first_uses())
        caches = self.residencies.caches if self.residencies else {}
        self.kept = with_draws(kept_of(case, reuse.routing, caches), caches)
        self.rules = rules_of(case)

    def _first_uses(self) -> dict[tuple[int, int], Ints] | None:
        if self.next_use is None:
            return {} if self.case.policy.looks_ahead else None
        gpus, local = self.case.gpus, self.reuse.routing.local
        return {
            divmod(work, gpus): one[: len(local[work % gpus])]
            for work, one in enumerate(self.next_use.first_uses())
        }

    def decide(self, first: int, found: Needed) -> ResidencyPlan:
        """The decisions of the run of passes from ``first`` on that needs ``found``."""
        return ResidencyPlan(*self._parts.arrays(first, lambda: self._decide(first, found)))

    def mark(self) -> tuple[Ints, ...]:
        """What ``back`` goes back to: what slots hold, and the states of policies."""
        return tuple(getattr(self.kept, name).copy() for name in CHANGING)

    def back(self, mark: tuple[Ints, ...]) -> None:
        """What was decided since then is not played."""
        for name, values in zip(CHANGING, mark, strict=True):
            np.copyto(getattr(self.kept, name), values)

    def end(self) -> None:
        """The run is over: leave in the log what others can use."""
        if not self._parts.known and self.distances is not None:
            self.distances.end()
        self._parts.end()

    def _known(self, first: int, found: Needed) -> Known:
        reuse = self.reuse
        works = len(found.offsets)
        next_use = weights = np.empty((works, 0), np.int64)
        distances = np.empty((works, 0), np.uint16)
        if self.next_use is not None:
            next_use = self.next_use.next_uses(first, found.offsets, found.experts)
        if self.distances is not None:
            distances = self.distances.of(first, found, next_use)
        elif self.case.policy.weighs and self.case.offloaded:
            weights = self.reuse.finder.weights(first, found)
        none = np.empty((works, 0), np.int8)
        marks = reuse.finder.marks(first, found) if self.marked else none
        return Known(next_use, weights, distances, marks)

    def _decide(self, first: int, found: Needed) -> ResidencyPlan:
        if self.residencies is not None and self.residencies.draw():
            self.kept = with_draws(self.kept, self.residencies.caches)
        out = self._room(found)
        known = self._known(first, found)
        given = self.order, self.kept, found, known, out
        if self.distances is None and goes_by_recency(self.case):
            decide_by_recency(*given)
        else:
            decide_all_of(type(self.case.policy))(self.rules, first, *given)
        return cut(out)

    def _room(self, found: Needed) -> ResidencyPlan:
        """Room for what a run of passes that needs ``found`` may decide."""
        passes, _, gpus = found.executed.shape
        shape = self.reuse.finder.layers, passes, gpus
        number, counted = int(found.offsets[:, -1].sum()), len(self.counted)
        return room_for_plan(shape, number, self.reuse.finder.kept, self.order.kinds, counted)


def room_for_plan(
    shape: tuple[int, int, int], activations: int, kept: int, kinds: Ints, counted: int
) -> ResidencyPlan:
    """Room for so many ``activations`` of MoE layers, passes and GPUs, of so many in ``shape``,
    where so many things are ``counted`` of ``kept`` layers.
    """
    (_, passes, gpus), works = shape, shape[0] * shape[2]
    launch_base, copy_base = np.zeros((2, works), np.int64)
    step_launches, step_copies = np.zeros((2, works, passes + 1), np.int64)
    launch_rows, copy_launch, copy_wait, ragged_at, ragged_starts, ragged_rows = np.empty(
        (6, activations), np.int64
    )
    return ResidencyPlan(
        step_launches, launch_base, launch_rows, step_copies, copy_base, copy_launch, copy_wait,
        ragged_at, ragged_starts, ragged_rows, np.zeros((2 + int(kinds.max()), 4), np.int64),
        np.zeros((counted, passes, kept, gpus), np.int64), np.zeros(1, np.int64),
    )  # fmt: skip


def cut(out: ResidencyPlan) -> ResidencyPlan:
    """``out`` without the room that is left."""
    launches, copies, ragged, ragged_members = out.ends[-1]
    return out._replace(
        launch_rows=out.launch_rows[:launches],
        copy_launch=out.copy_launch[:copies],
        copy_wait=out.copy_wait[:copies],
        ragged_at=out.ragged_at[:ragged],
        ragged_starts=out.ragged_starts[:ragged],
        ragged_rows=out.ragged_rows[:ragged_members],
    )
