"""The engine against the slow reference of the tests, on many random experiments."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.reference.judge import judge
from tests.reference.strategies import Case, cases
from tests.reference.test_des_against_judge import compare, run_des
from verification.check import Measured, check

EXAMPLES = 1_000


@check(
    "The engine and the reference agree to the nanosecond",
    tolerance=0,
    why="both are written from docs/semantics.md, share no code, and count in integers",
    unit="experiments that differ",
)
def engine_and_reference_agree() -> Measured:
    drawn: Counter[str] = Counter()
    differing: list[str] = []

    @seed(2024)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def every(case: Case) -> None:
        drawn[case.config.miss] += 1
        try:
            compare(judge(case.trace, case.model, case.config, case.prices), run_des(case))
        except AssertionError as error:
            differing.append(f"{case.config}: {error}")

    every()
    kinds = ", ".join(f"{number} {miss}" for miss, number in sorted(drawn.items()))
    first = f"; first: {differing[0]}" if differing else ""
    return Measured(len(differing), f"{sum(drawn.values())} experiments ({kinds}){first}")
