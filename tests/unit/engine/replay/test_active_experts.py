"""The active experts of passes by hand: docs/semantics.md, Rows: needed are those with rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from moesim.engine.replay.active_experts import (
    FEW,
    count_choices,
    find_active_experts,
    sum_choices,
    sum_weights,
)
from moesim.engine.replay.spans import UNKNOWN, spans_of
from moesim.trace.routing import NO_EXPERT
from tests.unit.engine.replay.routed import (
    CHOICES,
    GPU_OF_EXPERT,
    GPUS,
    OFFSETS,
    PASSES,
    ROWS,
    SENDERS,
    ids,
    running,
)

HOME = np.arange(4).reshape(1, 4)


def found(chosen: Any, gpus: int, *, active: Any = None, home: Any = HOME) -> Any:
    """Offsets, experts and rows by GPU, and rows executed by pass and GPU."""
    offsets = np.full((gpus, PASSES + 1), -1)
    experts, rows = np.full((gpus, 32), -1), np.full((gpus, 32), -1)
    executed = np.zeros((PASSES, 1, gpus), np.int64)
    gpu_of_home = np.repeat(np.arange(gpus), home.shape[1] // gpus)
    find_active_experts(
        chosen, UNKNOWN, spans_of(ROWS, OFFSETS)[0], running() if active is None else active, home,
        gpu_of_home, gpus, offsets, experts, rows, executed,
    )  # fmt: skip
    cut = [(experts[g, :n].tolist(), rows[g, :n].tolist()) for g, n in enumerate(offsets[:, -1])]
    return offsets.tolist(), cut, executed[:, 0].tolist()


def test_choices_are_counted_where_the_token_is() -> None:
    choices = np.zeros((PASSES, 1, GPUS), np.int64)
    count_choices(ids(CHOICES), ROWS, SENDERS, OFFSETS, running(), choices)
    assert choices[:, 0].tolist() == [[2, 2], [2, 0]]


def test_choices_of_rows_are_added_up_where_the_token_is() -> None:
    choices = np.zeros((PASSES, 1, GPUS), np.int64)
    sum_choices(np.array([[2], [2], [2]]), ROWS, SENDERS, OFFSETS, running(), choices)
    assert choices[:, 0].tolist() == [[2, 2], [2, 0]]


def test_a_layer_that_does_not_run_has_no_choices() -> None:
    choices, active = np.zeros((PASSES, 1, GPUS), np.int64), np.array([[False], [True]])
    count_choices(ids(CHOICES), ROWS, SENDERS, OFFSETS, active, choices)
    assert choices[:, 0].tolist() == [[0, 0], [2, 0]]


def test_experts_of_one_gpu() -> None:
    """Pass 0: 0 once, 2 twice, 3 once; pass 1: 2 and 3, in ascending id."""
    offsets, cut, executed = found(ids(CHOICES), 1)
    assert offsets == [[0, 3, 5]]
    assert cut == [([0, 2, 3, 2, 3], [1, 2, 1, 1, 1])]
    assert executed == [[4], [2]]


def test_experts_of_two_gpus_are_numbered_on_each() -> None:
    """2 and 3 are the first and second on GPU 1; GPU 0 needs none in pass 1."""
    offsets, cut, executed = found(ids(CHOICES), GPUS)
    assert offsets == [[0, 1, 1], [0, 2, 4]]
    assert cut == [([0], [1]), ([0, 1, 0, 1], [2, 1, 1, 1])]
    assert executed == [[1, 3], [0, 2]]


def test_a_layer_that_does_not_run_needs_nothing() -> None:
    offsets, cut, executed = found(ids(CHOICES), 1, active=np.array([[False], [True]]))
    assert (offsets, cut, executed) == ([[0, 0, 2]], [([2, 3], [1, 1])], [[0], [2]])


def test_many_experts_are_ascending_as_few_are() -> None:
    """More than are sorted one by one: all of 20, twice, and one of them alone in pass 1."""
    many = FEW + 4
    chosen = ids([[*range(many)][::-1], [*range(many)], [7] * many])
    offsets, cut, executed = found(chosen, 1, home=np.arange(many).reshape(1, many))
    assert offsets == [[0, many, many + 1]]
    assert cut == [([*range(many), 7], [2] * many + [many])]
    assert executed == [[2 * many], [many]]


def test_gate_weights_of_an_expert_are_added_up() -> None:
    """In pass 0 expert 2 gets 20 of the first token and 5 of the second. A unit is worth 3."""
    weights = ids([[10, 20, 99], [5, 7, 99], [1, 2, 99]])
    offsets, experts = np.array([[0, 1, 1], [0, 2, 4]]), np.array([[0, -1, -1, -1], [0, 1, 0, 1]])
    sums, home_gpus = np.full((GPUS, 4), -1), len(GPU_OF_EXPERT)
    sum_weights(
        ids(CHOICES), weights, 3 * np.arange(65536), ROWS, OFFSETS, running(), HOME, home_gpus,
        offsets, experts, sums,
    )  # fmt: skip
    assert sums.tolist() == [[30, -1, -1, -1], [75, 21, 6, 3]]


@pytest.mark.parametrize("last", [[6, 1, 4], [6, NO_EXPERT, 4], [6, 1, 6]])
def test_passes_of_a_row_each_need_what_it_chooses(last: list[int]) -> None:
    """Sorted all at once, unless a row chooses fewer, or one expert twice."""
    chosen = [[5, 0, 3], [7, 2, 1], last]
    offsets, experts, rows = (np.zeros((1, n), np.int64) for n in (4, 9, 9))
    executed, home = np.zeros((3, 1, 1), np.int64), np.arange(8)[::-1].reshape(1, 8).copy()
    find_active_experts(
        ids(chosen), UNKNOWN, spans_of(np.array([2, 0, 1]), np.arange(4))[0],
        np.ones((3, 1), np.bool_), home, np.zeros(8, np.int64), 1, offsets, experts, rows, executed,
    )  # fmt: skip
    needed = [sorted(7 - e for e in chosen[row] if e != NO_EXPERT) for row in (2, 0, 1)]
    cuts = [slice(*two) for two in pairwise(offsets[0].tolist())]
    assert [experts[0, cut].tolist() for cut in cuts] == [sorted(set(one)) for one in needed]
    assert [rows[0, cut].sum() for cut in cuts] == executed[:, 0, 0].tolist()
    assert executed[:, 0, 0].tolist() == [len(one) for one in needed]
