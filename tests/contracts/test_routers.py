"""Every registered router, on what hypothesis lets it see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from moesim.testing.routers import chooses_a_replica
from moesim.workload.routers import registry
from moesim.workload.routers.base import Seen
from tests.contracts.kinds import own

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "routers"


@st.composite
def sights(draw: DrawFn) -> Seen:
    replicas = draw(st.integers(1, 5))

    def some(most: int):
        return np.array(draw(st.lists(st.integers(0, most), min_size=replicas, max_size=replicas)))

    before = draw(st.integers(-1, replicas - 1))
    overlap = some(3) if draw(st.booleans()) else None
    return Seen(draw(st.integers(0, 99)), some(60), some(60), some(3), before, overlap)


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files == set(own(registry))


@given(sights(), st.integers(0, 9))
def test_contract(seen, seed):
    for kind in registry.components.values():
        chooses_a_replica(kind(), seen, seed)


def seen(waiting, running, cached=(0, 0, 0), before=-1, overlap=None):
    found = None if overlap is None else np.array(overlap)
    return Seen(4, np.array(waiting), np.array(running), np.array(cached), before, found)


@pytest.mark.parametrize(
    ("kind", "sight", "chosen"),
    [
        ("round_robin", seen([9, 9, 9], [0, 0, 0]), 1),
        ("least_outstanding", seen([0, 2, 1], [4, 1, 2]), 1),
        ("vllm", seen([0, 2, 1], [4, 1, 2]), 0),
        ("session", seen([5, 0, 0], [5, 0, 0], before=0), 0),
        ("session", seen([5, 1, 0], [5, 0, 0]), 2),
        ("prefix", seen([5, 1, 0], [5, 0, 0], (32, 16, 0)), 0),
        ("prefix", seen([5, 1, 0], [5, 0, 0], (16, 16, 0)), 1),
        ("expert", seen([1, 2, 1], [0, 0, 0], overlap=(3, 9, 1)), 1),
        ("expert", seen([2, 1, 1], [0, 0, 0], overlap=(9, 9, 1)), 1),
        ("expert", seen([1, 4, 1], [0, 0, 0], overlap=(3, 9, 3)), 0),
        ("prefix", seen([35, 1, 0], [5, 0, 0], (32, 16, 0)), 2),
    ],
)
def test_by_hand(kind, sight, chosen):
    assert chooses_a_replica(registry.get(kind)(), sight) == chosen


def test_two_are_drawn_and_the_emptier_one_is_taken():
    """Never the one with most."""
    found = {
        chooses_a_replica(registry.get("power_of_two")(), seen([9, 1, 5], [0, 0, 0]), seed)
        for seed in range(40)
    }
    assert found == {1, 2}
