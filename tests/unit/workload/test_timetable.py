"""Passes that come to be known during a run."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.workload.growing import Growing
from moesim.workload.schedule import Schedule
from moesim.workload.timetable import Passes, Timetable, first_passes


def schedule_of(sizes: list[int], first: int, not_before_ns: np.ndarray | None = None) -> Schedule:
    """Passes of so many tokens, rows ``first`` and after."""
    rows = first + np.arange(sum(sizes))
    phase = np.ones(len(sizes), np.uint8)
    return Schedule(np.cumsum([0, *sizes]), rows, rows % 2, rows * 10, phase, not_before_ns)


PARTS = [
    schedule_of([2, 1], 0),
    schedule_of([3], 3, not_before_ns=np.array([70])),
    schedule_of([1, 1, 4], 6),
]
COLUMNS = ("offsets", "rows", "gpu", "request", "phase")


def test_a_timetable_reads_like_the_schedule_of_what_is_known() -> None:
    told = []

    def passes() -> Passes:
        for one in PARTS:
            ended = yield one
            told.append(ended.tolist())

    clock = np.zeros(2, np.int64)
    timetable = Timetable(passes, lambda: clock)
    whole = schedule_of([2, 1, 3, 1, 1, 4], 0)
    for number, known in enumerate((2, 3, 6)):
        assert timetable.passes == known
        for name in COLUMNS:
            expected = getattr(whole.first(known), name)
            np.testing.assert_array_equal(getattr(timetable, name), expected, err_msg=name)
        clock = np.array([number, 100 * number])
        assert timetable.more() == (known < 6)
    assert told == [[0, 0], [1, 100], [2, 200]]
    assert timetable.earliest_starts(0, 6).tolist() == [0, 0, 70, 0, 0, 0]
    later = timetable.between(2, 4)
    assert type(later) is Schedule
    assert (later.offsets.tolist(), later.rows.tolist()) == ([0, 3, 4], [3, 4, 5, 6])


@pytest.mark.parametrize(
    ("most", "parts"), [(1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 1, 2]), (9, [2, 1, 3])]
)
def test_a_run_may_end_after_its_first_passes(most: int, parts: list[int]) -> None:
    asked = []

    def passes() -> Passes:
        for one in PARTS:
            asked.append(one)
            yield one

    source, sizes = first_passes(passes, most)(), []
    try:
        one = next(source)
        while True:
            sizes.append(one.passes)
            one = source.send(np.zeros(1, np.int64))
    except StopIteration:
        pass
    assert sizes == parts
    assert len(asked) == len(parts)


def test_a_growing_array_moves_seldom() -> None:
    growing, addresses = Growing(np.int32, (2,)), set()
    for number in range(1000):
        growing.extend(np.full((1, 2), number))
        addresses.add(growing.values.ctypes.data)
    assert growing.values.dtype == np.int32
    np.testing.assert_array_equal(growing.values, np.repeat(np.arange(1000), 2).reshape(-1, 2))
    assert len(addresses) <= 12
