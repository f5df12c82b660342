"""The compiled engine: the chunks of the program, played by a compiled clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from moesim.engine.ahead import prefetches
from moesim.engine.case import Case, Floats, Ints
from moesim.engine.counts import Counts, Tally
from moesim.engine.outcome import Outcome
from moesim.engine.program import Program
from moesim.engine.replay.clock import play
from moesim.engine.replay.flat import Mask, Played, fixed_of, played
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick import QuickProgram, is_quick
from moesim.engine.terms import categories_of
from moesim.memory.residency import decide_of

STATE_ROWS = 4
Resting = dict[str, Floats]


def run_replay(case: Case, *, records: str = "layer", log: DecisionLog | None = None) -> Outcome:
    """Play ``case``; ``records`` as in the experiment, but for ``expert``. Equal to ``run_des``.

    ``log``: what earlier runs found and decided is not done again, and this run's is left there.

    The case must be one of those that ``replay`` plays (``experiment.engines``).
    """
    if case.offloaded and not is_quick(case):
        decide_of(type(case.policy), type(case.miss))
    begun = perf_counter()
    clock = Clock(case, layers=records == "layer")
    if prefetches(case):
        counts, resting = _play_prefetching(case, clock)
    elif is_quick(case):
        counts, resting = _play_quick(case, clock, log, by_layer=_by_layer(case, records))
    else:
        counts, resting = _play_common(case, clock)
    return Outcome(
        engine="replay",
        counts=counts,
        starts=clock.starts,
        ends=clock.ends,
        charges=clock.charges,
        layers=np.concatenate([np.zeros((0, 7), np.int64), *clock.layers]),
        seconds=perf_counter() - begun,
        copies=clock.copies,
        basis=resting,
        categories=clock.categories,
    )


def _play_quick(
    case: Case, clock: Clock, log: DecisionLog | None, *, by_layer: bool
) -> tuple[Counts, Resting]:
    program = QuickProgram(case, by_layer=by_layer, log=log)
    for first, one in program.chunks():
        clock.play(one, first)
    return program.total(), program.basis.resting()


def _play_common(case: Case, clock: Clock) -> tuple[Counts, Resting]:
    tally, program = Tally(case), Program(case)
    for chunk in program.chunks():
        tally.add(chunk)
        clock.play(played(case, chunk), chunk.first)
    return tally.total(), program.resting()


def _play_prefetching(case: Case, clock: Clock) -> tuple[Counts, Resting]:
    from moesim.engine.replay.prefetching import Prefetching  # takes long to compile

    ahead = Prefetching(case, clock.fixed)
    for chunk in ahead.program.chunks():
        clock.record(chunk.first, ahead.runs(chunk), partial(ahead.play, chunk))
    counts = ahead.total()
    clock.copies = int(counts.copies.sum())
    return counts, ahead.program.resting()


def _by_layer(case: Case, records: str) -> bool:
    """Whether counts are kept by layer: where they are shown, or where layers differ."""
    sizes = {layer.moe.expert.bytes for layer in case.model.moe_layers if layer.moe}
    return records == "layer" or len(sizes) > 1


class Clock:
    """The GPUs' clocks, carried from chunk to chunk; what they recorded, by chunk."""

    def __init__(self, case: Case, *, layers: bool) -> None:
        self.case, self.keep_layers = case, layers
        self.fixed = fixed_of(case)
        self.state = np.zeros((STATE_ROWS, case.gpus), np.int64)
        shape = (case.schedule.passes, case.gpus)
        self.starts, self.ends = np.zeros((2, *shape), np.int64)
        self.categories = categories_of(case)
        self.starts[:] = case.schedule.earliest_starts(0, case.schedule.passes)[:, None]
        self.charges = np.zeros((*shape, len(self.categories)), np.int64)
        self.layers: list[Ints] = []
        self.copies = 0

    def play(self, one: Played, first: int) -> None:
        """Play the next passes, from ``first`` on."""
        fixed, of_layer, launches = self.fixed
        given: list[Any] = [fixed, one.plan, of_layer, launches, *one[1:-1]]
        self.record(first, one.runs, partial(play, *given))
        self.charges[first : first + len(one.runs)] += one.charges
        self.copies += int(one.step_copies[:, -1].sum())

    def record(self, first: int, runs: Mask, play_into: Callable[..., Any]) -> None:
        """Play the passes ``runs`` bool[passes, model layers] from ``first`` on: ``play_into`` is
        given state, starts, ends, charges and records, which it fills in; ``starts`` has what no
        pass begins before.
        """
        here, kept = slice(first, first + len(runs)), len(runs) if self.keep_layers else 0
        records = np.zeros((kept, len(self.case.model.moe_layers), self.case.gpus, 4), np.int64)
        play_into(self.state, self.starts[here], self.ends[here], self.charges[here], records)
        if self.keep_layers:
            self.layers.append(self._rows(records, first, runs))

    def _rows(self, records: Ints, first: int, runs: Mask) -> Ints:
        """A row int64[n, 7] for each (pass, MoE layer, GPU) that ran."""
        moe = [layer.index for layer in self.case.model.moe_layers]
        step, layer = np.nonzero(runs[:, moe])
        gpus = self.case.gpus
        where = np.stack([np.repeat(step + first, gpus), np.repeat(layer, gpus)])
        gpu = np.tile(np.arange(gpus), len(step))
        rows = records[step, layer].reshape(-1, records.shape[-1])
        return np.concatenate((where, gpu[None], rows.T)).T
