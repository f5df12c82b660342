"""Concepts that go together, drawn together: both engines against the reference."""

from __future__ import annotations

from hypothesis import given, settings

from .agreement import agree
from .strategies import Case
from .strategies_together import CONCEPTS, concept_cases, concepts_of


@given(concept_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


def test_a_third_of_the_draws_join_several_concepts() -> None:
    """And most concepts are in some."""
    drawn: list[frozenset[str]] = []

    @settings(max_examples=120, derandomize=True, database=None)
    @given(concept_cases())
    def draw(case: Case) -> None:
        drawn.append(concepts_of(case))

    draw()
    assert 3 * sum(len(of) > 1 for of in drawn) >= len(drawn)
    assert len(frozenset().union(*drawn)) >= len(CONCEPTS) - 6
