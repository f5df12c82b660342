"""Experiments with prefetches: the engines against the slow reference, and against each other."""

from __future__ import annotations

from collections.abc import Callable

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from tests.reference.agreement import assert_same, compare, observed, verdict_of
from tests.reference.strategies import Case
from tests.reference.strategies_prefetch import prefetching_cases
from tests.reference.wiring import engine_case
from verification.check import Measured, check
from verification.drawn import Comparison, differing

EXAMPLES = 1_000


@check(
    "With prefetch the compiled engine and the reference agree to the nanosecond",
    tolerance=0,
    why="both are written from docs/semantics.md, share no code, and count in integers",
    unit="experiments that differ",
)
def prefetching_replay_and_reference_agree() -> Measured:
    def agree(case: Case, theirs: EngineCase) -> None:
        compare(verdict_of(case), observed(theirs, run_replay(theirs)))

    return _differing(agree, 2026)


@check(
    "With prefetch both engines agree to the nanosecond, in every count and in what prices rest on",
    tolerance=0,
    why="they have the same semantics and count in integers",
    unit="experiments that differ",
)
def prefetching_replay_is_des() -> Measured:
    def same(_: Case, theirs: EngineCase) -> None:
        assert_same(run_replay(theirs), run_des(theirs))

    return _differing(same, 2027)


def _differing(compared: Callable[[Case, EngineCase], None], start: int) -> Measured:
    """In how many experiments ``compared`` finds a difference; drawn from the seed ``start``."""

    def by_kind(case: Case) -> Comparison:
        theirs = engine_case(case)
        kind = case.config.prefetch.kind if theirs.prefetches else "without"
        return Comparison(kind, str(case.config), lambda: compared(case, theirs))

    return differing(by_kind, prefetching_cases(), examples=EXAMPLES, start=start)
