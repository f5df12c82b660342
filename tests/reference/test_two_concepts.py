"""Concepts that go together, drawn together: both engines against the reference."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings

from .agreement import agree
from .strategies import Case, few
from .strategies_together import CONCEPTS, concept_cases, concepts_of


@few
@given(concept_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@cache
def drawn() -> list[frozenset[str]]:
    """The concepts of 300 cases."""
    found: list[frozenset[str]] = []

    @settings(max_examples=300, derandomize=True, database=None)
    @given(concept_cases())
    def draw(case: Case) -> None:
        found.append(concepts_of(case))

    draw()
    return found


def test_a_third_of_the_draws_join_several_concepts() -> None:
    """And most concepts are in some."""
    found = drawn()
    assert 3 * sum(len(of) > 1 for of in found) >= len(found)
    assert len(frozenset().union(*found)) >= len(CONCEPTS) - 6


def test_nothing_is_drawn_that_variants_are_refused_beside() -> None:
    """What is read from storage has nothing else that does not go with that beside variants."""
    found = [of for of in drawn() if "variants" in of]
    below = [of for of in found if of & {"storage", "one memory"}]
    beside = {"replicas", "on the CPU", "prefetch", "before a pass"}
    assert below
    assert all(beside.isdisjoint(of) for of in below)
