"""What prefetchers predict in compiled code, and how it is looked at, against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import fault_of_predicted
from moesim.memory.prefetch.next_layer import take_best_of

Passes = list[dict[int, int]]
passes = st.lists(st.dictionaries(st.integers(0, 4), st.integers(1, 3), max_size=4), max_size=5)


def best(chosen: Passes, followers: np.ndarray, whole: Any) -> list[list[int]]:
    """What is taken by numbers of type ``whole``, of times by chosen expert in each pass."""
    ends = np.cumsum([0, *map(len, chosen)])
    flat = [np.array([*one.items()], np.int64).reshape(-1, 2) for one in chosen]
    of_all = np.concatenate([np.zeros((0, 2), np.int64), *flat])
    offsets, found = np.zeros_like(ends), np.empty(ends[-1], np.int64)
    experts, times = np.ascontiguousarray(of_all.T)
    take_best_of(whole)(ends, experts, times, followers, offsets, found)
    return [part.tolist() for part in np.split(found[: offsets[-1]], offsets[1:-1])][: len(chosen)]


@pytest.mark.parametrize(("whole", "most"), [(np.int32, 9), (np.int64, 9), (np.int64, 1 << 50)])
@given(chosen=passes, data=st.data())
def test_those_with_most_followers_are_taken(
    whole: Any, most: int, chosen: Passes, data: st.DataObject
) -> None:
    """Of equals the lowest; none that never followed."""
    counts = st.lists(st.integers(0, most), min_size=6, max_size=6)
    drawn = data.draw(st.lists(counts, min_size=5, max_size=5))
    followers = np.array(drawn, np.int64)
    expected = []
    for times in chosen:
        scores = [sum(times[e] * drawn[e][f] for e in times) for f in range(6)]
        order = sorted((f for f in range(6) if scores[f] > 0), key=lambda f: (-scores[f], f))
        expected.append(order[: len(times)])
    assert best(chosen, followers, whole) == expected


@pytest.mark.parametrize("experts", [3, 64, 65])
def test_experts_that_are_predicted_are_looked_at(experts: int) -> None:
    last = experts - 1
    offsets = np.array([0, 2, 2, 4])
    for predicted, fault in (
        ([0, last, last, 0], ""),
        ([0, last, 0, last], ""),
        ([0, last, last, last], "predicts an expert twice in a pass"),
        ([0, last, 1, experts], f"predicts an expert outside 0..{last}"),
        ([-1, last, 1, 0], f"predicts an expert outside 0..{last}"),
    ):
        found = ActiveExperts(offsets, np.array(predicted))
        assert fault_of_predicted(found, 3, experts) == fault
