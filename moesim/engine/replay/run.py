"""The compiled engine: the chunks of the program, played by a compiled clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts
from moesim.engine.fates import Fates
from moesim.engine.outcome import Outcome
from moesim.engine.pricing.provenance import Totals
from moesim.engine.pricing.unpacking import with_unpacking
from moesim.engine.program import Program
from moesim.engine.progress import Progress, Standing
from moesim.engine.replay.common import CommonProgram
from moesim.engine.replay.foreseen import is_foreseen, play_foreseen
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.foretold import rows_ahead_of
from moesim.engine.replay.quick.makers import maker_of
from moesim.engine.replay.quick.program import QuickProgram
from moesim.engine.replay.quick.varied_program import VariedProgram, is_varied
from moesim.engine.replay.quick.varied_rows import (
    VariedRowsProgram,
    has_varied_rows,
)
from moesim.engine.replay.run_clock import Clock
from moesim.engine.tally import Keep
from moesim.memory.policies.least_stale import LeastStale
from moesim.memory.policies.lru import Lru
from moesim.runtime.compiled import working_s
from moesim.workload.remade import forget
from moesim.workload.serving.stepping.foreseen import Foreseen

if TYPE_CHECKING:
    from moesim.engine.replay.prefetch.prefetching import Prefetching


def run_replay(
    case: Case,
    *,
    records: str = "layer",
    log: DecisionLog | None = None,
    cuts: Ints | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Play ``case``; ``records`` as in the experiment, but for ``expert``. Equal to ``run_des``.

    ``log``: what earlier runs found and decided is not done again, and this run's is left there.
    ``cuts``: passes, from 0 on, between which counts and charges are added up as they come, where
    ``records`` is ``summary``. Neither where a scheduler reads the clock.

    The case must be one of those that ``replay`` plays (``experiment.running.engines``).
    """
    case = _by_recency(case)
    foreseen = is_foreseen(case)
    if foreseen:
        assert case.serving is not None, "requests are served"
        forget(case.schedule)
        case = replace(case, schedule=case.serving.foreseen())
    else:
        case = case.opened(lambda: clock.ended)
    log = None if case.schedule.grows else log
    at_once = _program_of(case, log)
    begun = working_s()
    if case.schedule.grows or records != "summary":
        cuts = None
    clock = Clock(case, layers=records == "layer", cuts=cuts)
    keep = Keep(by_layer=_by_layer(case, records), cuts=cuts)
    standing = Standing(case, progress)
    of_run = _play(standing, clock, keep, log, at_once, foreseen=foreseen)
    outcome = Outcome(
        engine="replay",
        counts=of_run.counts,
        starts=clock.starts,
        ends=clock.ends,
        charges=clock.charges.values,
        layers=clock.layers.values,
        seconds=working_s() - begun,
        copies=clock.copies,
        provenance=of_run.provenance,
        categories=clock.categories,
        fates=of_run.fates,
        rebalanced=of_run.rebalanced,
        schedule=case.schedule.first(case.schedule.passes),
        cuts=cuts,
    )
    return with_unpacking(case, outcome)


def _by_recency(case: Case) -> Case:
    """``case``, under LRU where ``least_stale`` decides as that does: among the experts of a layer
    that is by pass, then by id, which is how a step runs them.
    """
    least_stale = type(case.policy) is LeastStale and case.policy.scope == "layer"
    return replace(case, policy=Lru()) if least_stale and case.order == "id" else case


class _OfRun(NamedTuple):
    """What a run has beside its clock's records: see ``Outcome``."""

    counts: Counts
    provenance: Totals
    fates: Fates | None = None
    rebalanced: tuple[int, int, int] = (0, 0, 0)


def _program_of(case: Case, log: DecisionLog | None) -> Callable[..., QuickProgram] | None:
    """What decides ``case`` in compiled code at once, of a case and what is kept of it; None where
    nothing does.
    """
    if case.links is not None:
        return None
    if case.prefetches:
        ahead = rows_ahead_of(case)
        return None if ahead is None else partial(QuickProgram, make=ahead)
    if is_varied(case):
        return VariedRowsProgram if has_varied_rows(case) else VariedProgram
    make = maker_of(case, log)
    return None if make is None else partial(QuickProgram, make=make)


def _play(
    standing: Standing, clock: Clock, keep: Keep, log: DecisionLog | None,
    at_once: Callable[..., QuickProgram] | None, *, foreseen: bool,
) -> _OfRun:  # fmt: skip
    """Play the case of ``standing`` by what plays it fastest."""
    case = standing.case
    if at_once is None and case.prefetches:
        counts, ahead = _play_prefetching(standing, clock, keep)
        return _OfRun(counts, ahead.provenance_totals(), ahead.fates)
    program = CommonProgram(case, keep) if at_once is None else at_once(case, keep, log=log)
    if foreseen:
        play_foreseen(program, clock, standing)
    else:
        for first, one in program.chunks():
            clock.play(one, first)
            standing.after(first + len(one.charges))
    counts = program.total()
    if case.prefetches:
        clock.copies = int(counts.copies.sum())
    return _OfRun(counts, program.provenance.totals(), program.fates, program.rebalanced)


def _play_prefetching(standing: Standing, clock: Clock, keep: Keep) -> tuple[Counts, Program]:
    from moesim.engine.replay.prefetch.prefetching import Prefetching  # takes long to compile

    ahead = Prefetching(standing.case, keep)
    if isinstance(standing.case.schedule, Foreseen):
        play_foreseen(ahead, clock, standing)
    else:
        _play_chunks(ahead, clock, standing)
    counts = ahead.tally.total()
    clock.copies = int(counts.copies.sum())
    return counts, ahead.program


def _play_chunks(ahead: Prefetching, clock: Clock, standing: Standing) -> None:
    for chunk in ahead.program.chunks():
        passes, charges = ahead.passes(chunk)
        play = partial(ahead.play, chunk, passes, clock.fixed_at(chunk.first))
        clock.fill(chunk.first, passes, charges, ahead.most_launches, play)
        clock.charge_scheduler(chunk.first, charges)
        standing.after(chunk.first + chunk.passes)


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
