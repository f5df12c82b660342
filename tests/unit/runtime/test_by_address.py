"""Compiled code reads of a record what Python put there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from moesim.engine.replay.callback import DRAW, Callback
from moesim.runtime.bare import whole
from moesim.runtime.by_address import ByAddress, Placed, placed
from moesim.runtime.compiled import code_of, njit, types


class Inner(NamedTuple):
    flat: Any
    number: Any


class Outer(NamedTuple):
    flag: Any
    table: Any
    inner: Any
    share: Any
    marks: Any
    small: Any
    ask: Any


INNER = ByAddress(Inner, types.int64[::1], types.int64)
OUTER = ByAddress(
    Outer, types.boolean, types.int64[:, ::1], INNER, types.float64, types.boolean[::1],
    types.int16[:, ::1], types.FunctionType(DRAW),
)  # fmt: skip


@njit(types.int64(INNER), _nrt=False, inner=True)
def total(inner):
    found = inner.number
    for i in range(len(inner.flat)):
        found += inner.flat[i]
    return found


@njit(types.float64(OUTER, types.int64), cache=True, _nrt=False)
def played(outer, row):
    if not outer.flag:
        return -1.0
    of_row = outer.table[row]
    whole(of_row)[-1] = total(outer.inner)
    outer.small[row, 0] += of_row[len(of_row) - 1]
    outer.marks[row] = not outer.marks[row]
    return outer.ask(len(of_row)) * outer.share


def made(*, flag: bool) -> Outer:
    inner = Inner(np.array([1, 2, 3]), 10)
    marks, small = np.array([False, True]), np.full((2, 1), -3, np.int16)
    return Outer(flag, np.arange(6).reshape(2, 3), inner, 0.5, marks, small, Callback(float, DRAW))


def test_members_are_read_and_arrays_written_in_place():
    outer = made(flag=True)
    assert code_of(played)(placed(outer, OUTER), 1) == 1.5
    assert outer.table.tolist() == [[0, 1, 2], [3, 4, 16]]
    assert outer.marks.tolist() == [False, False]
    assert outer.small.tolist() == [[-3], [13]]
    assert code_of(played)(placed(made(flag=False), OUTER), 1) == -1


def test_records_of_one_kind_with_other_members_are_of_other_types():
    assert ByAddress(Inner, types.int64[::1], types.int64) == INNER
    assert ByAddress(Inner, types.float64[::1], types.int64) != INNER


@pytest.mark.parametrize(
    "flat", [np.zeros(3, np.int32), np.zeros((1, 3), np.int64), np.arange(6)[::2]]
)
def test_an_array_that_would_be_misread_is_refused(flat):
    with pytest.raises(AssertionError):
        Placed(Inner(flat, 1), INNER)
