"""The engine against the slow reference of the tests, on many random experiments."""

from __future__ import annotations

from tests.reference.judge import judge
from tests.reference.strategies import Case, cases
from tests.reference.test_des_against_judge import compare, run_des
from verification.check import Measured, check
from verification.drawn import Comparison, differing

EXAMPLES = 1_000


@check(
    "The engine and the reference agree to the nanosecond",
    tolerance=0,
    why="both are written from docs/semantics.md, share no code, and count in integers",
    unit="experiments that differ",
)
def engine_and_reference_agree() -> Measured:
    def agree(case: Case) -> Comparison:
        def by_both() -> None:
            compare(judge(case.trace, case.model, case.config, case.prices), run_des(case))

        return Comparison(case.config.miss, str(case.config), by_both)

    return differing(agree, cases(), examples=EXAMPLES, start=2024)
