"""Activations, waves and copies of runs of passes, decided or as an earlier run has decided."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moesim.engine.case import Ints
from moesim.engine.replay.activations import NEXT_USED, decide_all_activations, take_all_activations
from moesim.engine.replay.ahead import Ahead
from moesim.engine.replay.found import Needed
from moesim.engine.replay.held import Held
from moesim.engine.replay.log import Parts
from moesim.engine.replay.shared import Shared
from moesim.engine.replay.stack_distances import stack_distances_of
from moesim.memory.misses.load import Load
from moesim.memory.residency import decide_of


class Decided(NamedTuple):
    """The decisions of a run of passes, as ``take_all_activations`` fills them in; ``most_waves``
    int64[1].
    """

    step_waves: Ints
    wave_base: Ints
    wave_ones: Ints
    step_copies: Ints
    copy_base: Ints
    copy_wave: Ints
    copy_wait: Ints
    odd_at: Ints
    odd_starts: Ints
    odd_rows: Ints
    ends: Ints
    counts: Ints
    most_waves: Ints


class Decider:
    """Decides a case, run of passes by run of passes; ``kinds`` int64[MoE layers] of layers, in
    whose order ``works`` int64[MoE layers x gpus] are taken.
    """

    def __init__(self, shared: Shared, kinds: Ints, works: Ints) -> None:
        case, log = shared.case, shared.log
        self.case, self.shared, self.kinds, self.works = case, shared, kinds, works
        of_case = (
            *shared.key, type(case.policy), case.policy.model_dump_json(), case.slots.tobytes(),
            case.initial, case.order, case.kernels == "serial", case.software.overlap,
            kinds.tobytes(),
        )  # fmt: skip
        self._parts = Parts(log if log and log.decisions else None, of_case)
        if self._parts.known:
            return
        self.ahead: Ahead | None = None
        self.held = Held(case, shared.routing, self._first_uses)
        self.distances = stack_distances_of(shared, self.held)
        distances_known = self.distances is not None and self.distances.known
        if self.held.rank_of == NEXT_USED and not distances_known:
            self.held.rank = -self._first_uses()
            self.held.open()

    def _first_uses(self) -> Ints:
        self.ahead = self.shared.ahead()
        return self.ahead.first_uses()

    def decide(self, first: int, found: Needed) -> Decided:
        """The decisions of the run of passes from ``first`` on that needs ``found``."""
        return Decided(*self._parts.arrays(first, lambda: self._decide(first, found)))

    def end(self) -> None:
        """The run is over: leave in the log what others can use."""
        if not self._parts.known and self.distances is not None:
            self.distances.end()
        self._parts.end()

    def _decide(self, first: int, found: Needed) -> Decided:
        case, held = self.case, self.held
        held.draw()
        offsets, active, rows = found.offsets, found.experts, found.rows
        next_use = weights = np.empty((len(offsets), 0), np.int64)
        distances = np.empty((len(offsets), 0), np.uint16)
        if self.ahead is not None:
            next_use = self.ahead.next_uses(first, offsets, active)
        if self.distances is not None:
            distances = self.distances.of(first, found, next_use)
        if case.policy.weighs and case.offloaded:
            weights = self.shared.finder.weights(first, found)
        step_waves, step_copies = np.empty_like(offsets), np.empty_like(offsets)
        bases = np.empty((2, len(offsets)), np.int64)
        lists = np.empty((6, int(offsets[:, -1].sum())), np.int64)
        wave_ones, copy_wave, copy_wait, odd_at, odd_starts, odd_rows = lists
        ends = np.zeros((2 + int(self.kinds.max()), 4), np.int64)
        passes, _, gpus = found.executed.shape
        counts = np.zeros((3, passes, self.shared.finder.kept, gpus), np.int64)
        how = (
            case.kernels == "serial", case.order == "resident_first", case.software.overlap,
        )  # fmt: skip
        filled = (
            step_waves, bases[0], wave_ones, step_copies, bases[1], copy_wave, copy_wait,
            odd_at, odd_starts, odd_rows, ends, counts,
        )  # fmt: skip
        if held.kept is None:
            most = take_all_activations(
                held.rank_of, *how, self.works, self.kinds, case.gpus,
                offsets, active, rows, next_use, distances,
                held.slots, held.local, held.resident, held.rank, held.open_rank, held.clock,
                *filled,
            )  # fmt: skip
        else:
            most = decide_all_activations(
                decide_of(type(case.policy), Load), *how, case.policy.shared_buffers() is not None,
                self.works, self.kinds, held.local, first, offsets, active, rows, next_use, weights,
                held.resident, held.clock, held.kept, *filled,
            )  # fmt: skip
        waves, copies, odd, odd_members = ends[-1]
        return Decided(
            step_waves, bases[0], wave_ones[:waves], step_copies, bases[1], copy_wave[:copies],
            copy_wait[:copies], odd_at[:odd], odd_starts[:odd], odd_rows[:odd_members], ends,
            counts, np.array([most]),
        )  # fmt: skip
