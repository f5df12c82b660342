"""Spans of rows by hand, and what they choose, by running counts as row by row."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from moesim.engine.replay import spans
from moesim.engine.replay.spans import (
    UNKNOWN,
    Running,
    Spans,
    add_choices,
    places_of,
    running_of,
    spans_of,
)
from moesim.trace.routing import NO_EXPERT

PROMPT = [4, 5, 6, 7, 4, 5, 6, 7, 4, 5]
"""Four rows round and round."""


def told(rows: list[int], offsets: list[int], decodes: Any = ()) -> list[Any]:
    """By part, rows one by one, and spans with how many times."""
    with patch.object(spans, "SHORTEST", 2):
        found, _ = spans_of(np.array(rows), np.array(offsets), np.array(decodes, np.bool_))
    parts = range(len(found.single_at) - 1)
    every = zip(*(one.tolist() for one in found[3:]), strict=True)
    listed = list(every)
    return [
        (
            found.single[found.single_at[i] : found.single_at[i + 1]].tolist(),
            listed[found.spans_at[i] : found.spans_at[i + 1]],
        )
        for i in parts
    ]


def test_rows_round_and_round_are_spans_some_times() -> None:
    assert told(PROMPT, [0, 10]) == [([], [(4, 6, 3), (6, 8, 2)])]


def test_rows_alone_are_no_span() -> None:
    """Of two passes from token 3 on."""
    assert told([9, 2, 0, 1, 2], [3, 5, 8]) == [([9, 2], []), ([], [(0, 3, 1)])]


def test_those_that_decode_are_a_part_of_their_own() -> None:
    """Row 8 follows 7, but decodes; so do 2 and 3."""
    rows, decodes = [6, 7, 8, 2, 3, 1], [False, False, True, True, True, False]
    assert told(rows, [0, 6], decodes) == [([1], [(6, 8, 1)]), ([8], [(2, 4, 1)])]


def test_it_says_how_many_rows_are_in_spans() -> None:
    with patch.object(spans, "SHORTEST", 3):
        assert spans_of(np.array([1, 2, 3, 7, 8]), np.array([0, 5]))[1] == 3


IDS = np.random.default_rng(7).integers(0, 6, (23, 2, 3)).astype(np.uint16)
IDS[5, 0, 1] = IDS[22] = NO_EXPERT
HOME = np.array([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])


def counted(running: Running, first: int, last: int) -> list[list[int]]:
    """What rows first:last choose, three times, by layer."""
    one = Spans(*map(np.array, ([0, 0], np.zeros(0, np.int64), [0, 1], [first], [last], [3])))
    counts = np.zeros((2, 6), np.int64)
    for layer in range(2):
        add_choices(IDS, running, one, HOME[layer], layer, 0, counts[layer])
    return counts.tolist()


@pytest.mark.parametrize("every", [1, 2, 4, 8, 32])
def test_running_counts_are_those_row_by_row(every: int) -> None:
    with patch.object(spans, "CELLS", 2 * 6 * (len(IDS) // every + 1)):
        running = running_of(IDS, HOME, 6)
    assert running.every == every
    for first in range(len(IDS)):
        for last in range(first + 1, len(IDS) + 1):
            assert counted(running, first, last) == counted(UNKNOWN, first, last)


def test_places_are_those_of_what_rows_choose() -> None:
    """Of rows that all choose three; else nothing is known, nor where they are too many."""
    whole, rows = np.where(IDS == NO_EXPERT, 2, IDS).astype(np.uint16), np.array([3, 22, 3, 5])
    alone = Spans(*map(np.array, ([0, 4], rows, [0, 0], *np.zeros((3, 0), np.int64))))
    counts = np.zeros((2, 2, 6), np.int64)
    for running, found in zip((UNKNOWN, _placed(whole)), counts, strict=True):
        for layer in range(2):
            add_choices(whole, running, alone, HOME[layer], layer, 0, found[layer])
    assert counts[0].tolist() == counts[1].tolist()
    assert counts[0].sum() == 2 * rows.size * 3
    assert places_of(IDS, HOME).size == 0
    with patch.object(spans, "CELLS", whole.size - 1):
        assert places_of(whole, HOME).size == 0


def _placed(ids: Any) -> Running:
    """With nothing but the places of what rows choose."""
    places = places_of(ids, HOME)
    assert places.shape == (2, 23, 3)
    return UNKNOWN._replace(places=places)
