"""The compiled engine: the chunks of the program, played by a compiled clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np

from moesim.engine.ahead import prefetches
from moesim.engine.case import Case, Floats, Ints
from moesim.engine.counts import Counts
from moesim.engine.folded import Folded
from moesim.engine.outcome import Outcome
from moesim.engine.program import Program
from moesim.engine.replay.clock.layer_rows import fill_rows
from moesim.engine.replay.clock.loop import new_gpus, play_decided
from moesim.engine.replay.clock.records import HOST, Filled, Fixed, Gpus, Passes
from moesim.engine.replay.flat import Played, fixed_of, played
from moesim.engine.replay.found_program import program_of
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.activations import decide_all_of
from moesim.engine.replay.quick.program import QuickProgram, is_quick
from moesim.engine.tally import Keep, Tally
from moesim.engine.terms import categories_of
from moesim.engine.unpacking import with_unpacking
from moesim.hardware.software import Execution
from moesim.memory.residency import decide_of
from moesim.workload.growing import Growing

Provenance = dict[str, Floats]
"""Nanoseconds by source, by what they are charged to."""


def run_replay(
    case: Case,
    *,
    records: str = "layer",
    log: DecisionLog | None = None,
    cuts: Ints | None = None,
) -> Outcome:
    """Play ``case``; ``records`` as in the experiment, but for ``expert``. Equal to ``run_des``.

    ``log``: what earlier runs found and decided is not done again, and this run's is left there.
    ``cuts``: passes, from 0 on, between which counts and charges are added up as they come, where
    ``records`` is ``summary``. Neither where a scheduler reads the clock.

    The case must be one of those that ``replay`` plays (``experiment.running.engines``).
    """
    case = case.opened(lambda: clock.ended)
    if case.offloaded and not is_quick(case):
        decide_of(type(case.policy), type(case.miss))
    elif is_quick(case) and not prefetches(case):
        decide_all_of(type(case.policy))
    begun = perf_counter()
    if case.schedule.grows or records != "summary":
        cuts = None
    clock = Clock(case, layers=records == "layer", cuts=cuts)
    log = None if case.schedule.grows else log
    fates, rebalanced, keep = None, (0, 0), Keep(by_layer=_by_layer(case, records), cuts=cuts)
    if prefetches(case):
        counts, program = _play_prefetching(case, clock, keep)
        provenance, fates = program.provenance_totals(), program.fates
    elif is_quick(case):
        counts, provenance = _play_quick(case, clock, keep, log)
    else:
        counts, program = _play_common(case, clock, keep)
        provenance, fates = program.provenance_totals(), program.fates
        rebalanced = program.rebalanced
    outcome = Outcome(
        engine="replay",
        counts=counts,
        starts=clock.starts,
        ends=clock.ends,
        charges=clock.charges.values,
        layers=clock.layers.values,
        seconds=perf_counter() - begun,
        copies=clock.copies,
        provenance=provenance,
        categories=clock.categories,
        fates=fates,
        rebalanced=rebalanced,
        schedule=case.schedule.first(case.schedule.passes),
        cuts=cuts,
    )
    return with_unpacking(case, outcome)


def _play_quick(
    case: Case, clock: Clock, keep: Keep, log: DecisionLog | None
) -> tuple[Counts, Provenance]:
    program = QuickProgram(case, keep, log=log)
    for first, one in program.chunks():
        clock.play(one, first)
    return program.total(), program.provenance.totals()


def _play_common(case: Case, clock: Clock, keep: Keep) -> tuple[Counts, Program]:
    tally, program = Tally(case, keep), program_of(case, by_layer=keep.by_layer)
    for chunk in program.chunks():
        tally.add(chunk)
        clock.play(played(case, chunk), chunk.first)
    return tally.total(), program


def _play_prefetching(case: Case, clock: Clock, keep: Keep) -> tuple[Counts, Program]:
    from moesim.engine.replay.prefetch.prefetching import Prefetching  # takes long to compile

    ahead = Prefetching(case, keep)
    for chunk in ahead.program.chunks():
        passes, charges = ahead.passes(chunk)
        play = partial(ahead.play, chunk, passes, clock.fixed_at(chunk.first))
        clock.record(chunk.first, passes, charges, ahead.most_launches, play)
    counts = ahead.tally.total()
    clock.copies = int(counts.copies.sum())
    return counts, ahead.program


def _by_layer(case: Case, records: str) -> bool:
    """Whether counts are kept by layer: where they are shown, where layers differ, or where they
    are on GPUs of their own.
    """
    sizes: set[tuple[int, ...]] = {
        (layer.moe.expert.bytes,) for layer in case.model.moe_layers if layer.moe
    }
    if case.variants is not None:
        sizes = set(map(tuple, case.variants.sizes.tolist()))
    return records == "layer" or len(sizes) > 1 or bool(case.stages)


class Clock:
    """The GPUs' clocks, carried from chunk to chunk; what they recorded, by chunk."""

    def __init__(self, case: Case, *, layers: bool, cuts: Ints | None) -> None:
        self.case, self.keep_layers = case, layers
        self._fixed: dict[Execution, Fixed] = {}
        rooms = 0 if case.host_cache is None else case.host_cache.rooms
        self.gpus = new_gpus(case.gpus, len(case.model.moe_layers), case.nodes, rooms)
        self.categories, self._moe = categories_of(case), case.model.moe_layers
        shape = (case.gpus,)
        self._starts, self._ends = Growing(shape=shape), Growing(shape=shape)
        self.charges = Folded(cuts)
        """What passes were charged, int64[passes, gpus, categories]."""
        self.layers = Growing(shape=(7,))
        """A row for each (pass, MoE layer, GPU) that ran, where they are kept."""
        self.copies = 0

    def fixed_at(self, first: int) -> Fixed:
        """What is the same in pass ``first`` and in all that are played with it."""
        (execution,) = self.case.executions(first, first + 1)
        if execution not in self._fixed:
            self._fixed[execution] = fixed_of(self.case.launched_as(execution))
        return self._fixed[execution]

    @property
    def starts(self) -> Ints:
        """When each pass began, int64[passes, gpus], be it to wait for the host; before it did, the
        instant it waits for.
        """
        return self._starts.values

    @property
    def ends(self) -> Ints:
        """When each pass ended, int64[passes, gpus]."""
        return self._ends.values

    @property
    def ended(self) -> Ints:
        """When each GPU ended what was played last, int64[gpus]."""
        ended: Ints = self.gpus.time.copy()
        return ended

    def play(self, one: Played, first: int) -> None:
        """Play the next passes, from ``first`` on."""

        def play_into(gpus: Gpus, filled: Filled) -> None:
            play_decided(self.fixed_at(first), one.passes, one.works, gpus, filled, 0, 0, 0)

        self.record(first, one.passes, one.charges, one.most_launches, play_into)
        self.copies += int(one.works.step_copies[:, -1].sum())

    def record(
        self,
        first: int,
        passes: Passes,
        charges: Ints,
        launches: int,
        play_into: Callable[[Gpus, Filled], None],
    ) -> None:
        """Play ``passes`` from ``first`` on, in which a work has at most so many ``launches``.
        ``charges`` int64[passes, gpus, categories] of their terms, to which the clock adds its own.
        """
        here, kept = slice(first, first + len(passes.runs)), len(passes.runs)
        self._know_passes()
        shape = (kept if self.keep_layers else 0, len(self.case.model.moe_layers), self.case.gpus)
        records = np.zeros((*shape, 4), np.int64)
        filled = Filled(self.starts[here], self.ends[here], charges, records)
        play_into(self.gpus._replace(launch_end=np.zeros(launches, np.int64)), filled)
        self._charge_scheduler(first, charges)
        self.charges.add(charges)
        if self.keep_layers:
            runs = np.ascontiguousarray(passes.runs[:, [one.index for one in self._moe]])
            rows = self.layers.more(int(runs.sum()) * self.case.gpus)
            fill_rows(records, runs, first, rows)

    def _charge_scheduler(self, first: int, charges: Ints) -> None:
        """Let passes from ``first`` on begin where GPUs wait for the host to decide them, and add
        that wait to their ``charges``.
        """
        if self.case.schedule.host_ns is None:
            return
        last = first + len(charges)
        starts, begins = self.starts[first:last], self.case.schedule.begins(first, last)[:, None]
        free = np.zeros_like(starts)
        free[1:], free[:1] = self.ends[first : last - 1], self.ends[first - 1] if first else 0
        begun = np.maximum(free, begins)
        charges[:, :, HOST] += starts - begun
        starts[:] = begun

    def _know_passes(self) -> None:
        """Make room for all passes that are known."""
        known, schedule = len(self.starts), self.case.schedule
        if new := schedule.passes - known:
            earliest = schedule.earliest_starts(known, schedule.passes)[:, None]
            self._starts.extend(np.broadcast_to(earliest, (new, self.case.gpus)))
            self._ends.extend(np.zeros((new, self.case.gpus), np.int64))
            if self.keep_layers:
                self.layers.reserve(new * len(self._moe) * self.case.gpus)
