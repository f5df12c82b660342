"""Shapes of launches that bits tell are those that experts have, counted one by one."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.engine.pricing.ragged_launches import COLUMNS, shape_of
from moesim.engine.replay.quick import bits
from moesim.engine.replay.quick.bits import MOST_ROWS, UNTOLD, Tiles, bits_of, tell_shapes
from moesim.engine.replay.spans import Spans
from moesim.trace.routing import NO_EXPERT

LAYERS = 3


def drawn(experts: int, rows: int, seed: int) -> np.ndarray[Any, Any]:
    """Choices of rows, of which few are usual, and some are none."""
    stream = np.random.default_rng(seed)
    order = np.argsort(stream.random((rows, LAYERS, experts)) ** np.arange(1, experts + 1), axis=2)
    ids = order[:, :, :4].astype(np.uint16)
    ids[stream.random(ids.shape) < 0.1] = NO_EXPERT
    return ids


def spans_of_rows(passes: list[list[int]], parts: int, mixed: int = -1) -> Spans:
    """Passes of such rows, in the last of their parts, that of one of them in the first."""
    sizes = np.zeros((len(passes), parts), np.int64)
    for step, rows in enumerate(passes):
        sizes[step, 0 if step == mixed else -1] = len(rows)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    ones = np.array([row for rows in passes for row in rows], np.int64)
    none = np.zeros(0, np.int64)
    return Spans(ends, ones, np.zeros_like(ends), none, none, none)


def one_by_one(counts: Any, tiles: Tiles) -> list[int]:
    """The shape of a launch of experts with these rows."""
    shape, rows = np.zeros(COLUMNS, np.int64), counts[counts > 0]
    assert shape_of(np.append(rows, 0), 0, len(rows), *tiles, shape)
    return list(shape)


@given(
    st.integers(0, 1 << 30),
    st.sampled_from([(70, 1), (70, 2), (150, 2), (9, 4)]),
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.sampled_from([1, 2, 4, 6, 16]),
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 2),
)
@settings(max_examples=30, deadline=None)
def test_shapes_are_those_of_experts_one_by_one(
    seed: int, sizes: tuple[int, int], passes: list[int], tile: int, group: int,
    by_average: bool, parts: int,
) -> None:  # fmt: skip
    """Of any rows, with experts anywhere; what cannot be told is left to be counted."""
    (experts, gpus), stream = sizes, np.random.default_rng(seed)
    ids, held = drawn(experts, 40, seed), -(-experts // gpus)
    home = np.array([stream.permutation(held * gpus)[:experts] for _ in range(LAYERS)])
    layers = np.array([0, 2])
    room = np.arange(1, 1000)
    tiles = Tiles(np.full(999, tile), np.where(room > 60, 1, group), by_average)
    rows = [stream.integers(0, 40, number).tolist() for number in passes]
    told = np.zeros((len(layers) * gpus, len(rows), COLUMNS), np.int64)
    known = bits_of(ids, home, layers, held, gpus)
    tell_shapes(known, spans_of_rows(rows, parts), tiles, told)
    for step, own in enumerate(rows):
        for at, layer in enumerate(layers):
            chosen = ids[own, layer].ravel()
            counts = np.bincount(home[layer, chosen[chosen != NO_EXPERT]], minlength=held * gpus)
            for gpu in range(gpus):
                found = told[at * gpus + gpu, step]
                expected = one_by_one(counts[gpu * held : (gpu + 1) * held], tiles)
                assert found[0] == UNTOLD or found.tolist() == expected
                if tile in {1, 2, 4, 16} and (tiles.group == 1).all():
                    assert found[0] != UNTOLD


def shapes(passes: list[list[int]], parts: int = 1, mixed: int = -1) -> list[int]:
    """The rows that are told of passes of a trace whose rows all choose experts 0 and 1."""
    ids = np.zeros((4, 1, 2), np.uint16)
    ids[:, :, 1] = 1
    home, tiles = np.arange(4)[None], Tiles(np.full(2000, 512), np.ones(2000, np.int64), False)
    told = np.zeros((1, len(passes), COLUMNS), np.int64)
    known = bits_of(ids, home, np.zeros(1, np.int64), 4, 1)
    tell_shapes(known, spans_of_rows(passes, parts, mixed), tiles, told)
    return list(told[0, :, 0])


def test_many_rows_are_not_told() -> None:
    assert shapes([[0] * MOST_ROWS, [0] * (MOST_ROWS + 1)]) == [2 * MOST_ROWS, UNTOLD]


def test_where_rows_are_told_apart_those_that_decode_are_alone() -> None:
    assert shapes([[0, 1], [2], [3]], parts=2, mixed=1) == [4, UNTOLD, 2]


def test_spans_are_not_told() -> None:
    spans = spans_of_rows([[0], [0]], 1)._replace(spans_at=np.array([0, 0, 1]))
    told = np.zeros((1, 2, COLUMNS), np.int64)
    ids, home = np.zeros((1, 1, 1), np.uint16), np.zeros((1, 1), np.int64)
    tiles = Tiles(np.ones(9, np.int64), np.ones(9, np.int64), False)
    tell_shapes(bits_of(ids, home, np.zeros(1, np.int64), 1, 1), spans, tiles, told)
    assert told[0, :, 0].tolist() == [1, UNTOLD]


@pytest.mark.parametrize("most", [7, 8])
def test_a_large_trace_has_none(most: int) -> None:
    ids, home = np.arange(8, dtype=np.uint16).reshape(4, 2, 1), np.tile(np.arange(8), (2, 1))
    with patch.object(bits, "MOST_WORDS", most):
        known = bits_of(ids, home, np.arange(2), 8, 1)
    assert (known is bits.UNKNOWN) == (most < 8)


def test_a_row_that_chooses_an_expert_twice_has_none() -> None:
    ids, home = np.zeros((1, 1, 2), np.uint16), np.zeros((1, 1), np.int64)
    assert bits_of(ids, home, np.zeros(1, np.int64), 1, 1) is bits.UNKNOWN
