"""The engine against the slow reference of the tests, on many random experiments."""

from __future__ import annotations

from moesim.engine.des.run import run_des
from tests.reference.agreement import compare, observed, verdict_of
from tests.reference.strategies import Case, cases
from tests.reference.wiring import engine_case
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
            theirs = engine_case(case)
            compare(verdict_of(case), observed(theirs, run_des(theirs, check=True)))

        return Comparison(case.config.miss, str(case.config), by_both)

    return differing(agree, cases(), examples=EXAMPLES, start=2024)
