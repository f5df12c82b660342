"""Slots whose policy evicts what the step itself needs (docs/semantics.md, "Slots and victims")."""

from __future__ import annotations

from typing import Any

import pytest

from .agreement import agree
from .prices import ToyPrices
from .reference_words import Config, Verdict
from .scenes import launches, log, scene
from .strategies import Case

CYCLE = [[0, 1, 2, 3]] * 5


def played(steps: list[list[int]], experts: int, **choices: Any) -> Verdict:
    trace, model = scene(steps, experts)
    return agree(Case(trace, model, Config(**choices), ToyPrices()))


@pytest.mark.parametrize("kernels", ["grouped", "serial"])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_lru_with_fewer_slots_than_a_step_needs_never_hits(kernels: str, slots: int) -> None:
    thrashing = played(CYCLE, 5, slots=slots, protect="none", kernels=kernels)
    assert (thrashing.hits, thrashing.misses) == (0, 20)


def test_by_default_some_survive_whatever_the_kernels() -> None:
    """2 slots: (c) spares what came last but one, which hits in every step after the first."""
    for kernels in ("grouped", "serial"):
        assert played(CYCLE, 5, slots=2, kernels=kernels).hits == 4


def test_what_is_used_longest_ago_goes_though_the_step_needs_it() -> None:
    """3 slots hold 1, 2, 3; the step needs 0 and 1: 0 takes the slot of 1, and 1 that of 2."""
    verdict = played([[1], [2], [3], [0, 1]], 5, slots=3, protect="none")
    assert log(verdict, 3) == [(0, "c", 1), (1, "a", 2)]
    protected = played([[1], [2], [3], [0, 1]], 5, slots=3)
    assert log(protected, 3) == [(0, "a", 2), (1, "", None)]


def test_a_copy_waits_for_a_victim_that_this_step_has_used() -> None:
    """2 slots, 4 experts: 2 takes the slot of 0 and 3 that of 1, each in a launch after theirs."""
    verdict = played(CYCLE[:1], 5, slots=2, protect="none")
    assert log(verdict, 0) == [(0, "free", None), (1, "free", None), (2, "b", 0), (3, "b", 1)]
    assert launches(verdict, 0) == [[0, 1], [2, 3]]
