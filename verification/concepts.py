"""Experiments of several concepts at once: both engines against the slow reference."""

from __future__ import annotations

from tests.reference.agreement import agree
from tests.reference.strategies import Case
from tests.reference.strategies_together import concept_cases, concepts_of
from verification.check import Measured, check
from verification.drawn import Comparison, differing

EXAMPLES = 10_000


@check(
    "Of concepts that go together both engines and the reference say the same to the nanosecond",
    tolerance=0,
    why="all are written from docs/semantics.md, the reference shares no code with them, and all"
    " count in integers",
    unit="experiments that differ",
)
def concepts_agree() -> Measured:
    """Counted by their sets of concepts."""

    def of_set(case: Case) -> Comparison:
        kind = " + ".join(sorted(concepts_of(case))) or "none of them"
        return Comparison(kind, str(case.config), lambda: _agree(case))

    return differing(of_set, concept_cases(), examples=EXAMPLES, start=2028)


def _agree(case: Case) -> None:
    agree(case)
