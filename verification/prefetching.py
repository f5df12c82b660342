"""Experiments with prefetches: the engines against the slow reference, and against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings

from moesim.engine.ahead import prefetches
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from tests.reference.judge import judge
from tests.reference.strategies import Case, prefetching_cases
from tests.reference.test_des_against_judge import compare, observed
from tests.reference.test_replay import assert_same
from tests.reference.wiring import engine_case
from verification.check import Measured, check

EXAMPLES = 1_000


@check(
    "With prefetch the compiled engine and the reference agree to the nanosecond",
    tolerance=0,
    why="both are written from docs/semantics.md, share no code, and count in integers",
    unit="experiments that differ",
)
def prefetching_replay_and_reference_agree() -> Measured:
    def agree(case: Case) -> None:
        verdict = judge(case.trace, case.model, case.config, case.prices)
        theirs = engine_case(case)
        compare(verdict, observed(theirs, run_replay(theirs)))

    return _measured(agree, 2026)


@check(
    "With prefetch both engines agree to the nanosecond, in every count and in what prices rest on",
    tolerance=0,
    why="they have the same semantics and count in integers",
    unit="experiments that differ",
)
def prefetching_replay_is_des() -> Measured:
    def same(case: Case) -> None:
        theirs = engine_case(case)
        assert_same(run_replay(theirs), run_des(theirs))

    return _measured(same, 2027)


def _measured(compared: Callable[[Case], None], number: int) -> Measured:
    """In how many experiments ``compared`` finds a difference; drawn from the seed ``number``."""
    drawn: Counter[str] = Counter()
    differing: list[str] = []

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(prefetching_cases())
    def every(case: Case) -> None:
        kind = case.config.prefetch.kind if prefetches(engine_case(case)) else "without"
        drawn[kind] += 1
        try:
            compared(case)
        except AssertionError as error:
            differing.append(f"{case.config}: {error}")

    every()
    kinds = ", ".join(f"{times} {kind}" for kind, times in sorted(drawn.items()))
    first = f"; first: {differing[0]}" if differing else ""
    return Measured(len(differing), f"{sum(drawn.values())} experiments ({kinds}){first}")
