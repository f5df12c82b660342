"""Random experiments, each played in two ways that must agree to the nanosecond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from verification.check import Measured

MANY = 12
"""Kinds that are told in one line."""


class Comparison(NamedTuple):
    """Of one experiment: its ``kind``, by which experiments are counted, its ``name``, and what
    raises AssertionError where two ways differ.
    """

    kind: str
    name: str
    compare: Callable[[], object]


def differing(
    comparison: Callable[..., Comparison], *drawn: st.SearchStrategy[Any], examples: int, start: int
) -> Measured:
    """How many of ``examples`` experiments differ, and the first that does: each is what
    ``comparison`` makes of one value of each of ``drawn``, from the seed ``start``.
    """
    kinds: Counter[str] = Counter()
    different: list[str] = []

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*drawn))
    def every(values: tuple[Any, ...]) -> None:
        one = comparison(*values)
        kinds[one.kind] += 1
        try:
            one.compare()
        except AssertionError as error:
            different.append(f"{one.name}: {error}")

    every()
    counted = _told(kinds)
    first = f"; first: {different[0]}" if different else ""
    return Measured(len(different), f"{kinds.total()} experiments ({counted}){first}")


def _told(kinds: Counter[str]) -> str:
    """How many of each kind; of many kinds a line each, those with most first."""
    if len(kinds) <= MANY:
        return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    lines = [f"\n{number:>12} {kind}" for kind, number in kinds.most_common()]
    return "".join(lines)
