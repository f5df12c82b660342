"""The queue of prefetches by hand, as docs/semantics.md plays it: first in, first out, behind what
the copy engine does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.engine.replay.prefetch.arrays import (
    BEGUN,
    FLIGHT_BYTES,
    FLIGHT_END,
    FREE,
    MEANT,
    QUEUED,
    WAITING,
    Queue,
)
from moesim.engine.replay.prefetch.queue import advance, drop, enter, leave

LAYERS, LOCAL = 2, 2
COPY_NS, SIZES = np.array([10, 20]), np.array([100, 200])
END = LAYERS * LOCAL
"""The column of the queue's ends."""


@pytest.fixture
def queue() -> Queue:
    """Of one GPU: expert 3, of layer 1, issued at 5, then 0 and 1, of layer 0, at 30 and 31."""

    def table(columns: int, fill: int = 0) -> Any:
        return np.full((1, columns), fill, np.int64)

    made = Queue(
        following=table(END + 1, END),
        before=table(END + 1, END),
        issued=np.array([[30, 31, 0, 5]]),
        arrival=table(END),
        meant=table(END),
        caused=np.zeros((1, END), np.bool_),
        ended=np.zeros((1, LAYERS, 2, 1, 3), np.int64),
        engine=table(4),
    )
    enter(made, 0, 3, 200, 2, 0)  # layer 1 of pass 0
    enter(made, 0, 0, 100, 3, 0)  # layer 0 of pass 1
    enter(made, 0, 1, 100, 3, 0)
    return made


def waiting(queue: Queue) -> list[int]:
    """From the first to the last, which is the same backwards."""
    found, back = [], []
    expert = queue.following[0, END]
    while expert != END:
        found.append(int(expert))
        expert = queue.following[0, expert]
    expert = queue.before[0, END]
    while expert != END:
        back.append(int(expert))
        expert = queue.before[0, expert]
    assert back == found[::-1]
    return found


def test_prefetches_enter_behind_one_another(queue: Queue) -> None:
    assert waiting(queue) == [3, 0, 1]
    assert queue.engine[0, QUEUED] == 400
    assert queue.meant[0].tolist() == [3, 3, 0, 2]
    assert queue.arrival[0].tolist() == [WAITING, WAITING, 0, WAITING]
    assert queue.ended[0, :, :, 0, MEANT].tolist() == [[0, 2], [1, 0]]  # by parity of the pass


def test_one_may_leave_from_between(queue: Queue) -> None:
    leave(queue, 0, 0, 100)
    assert waiting(queue) == [3, 1]
    assert queue.engine[0, QUEUED] == 300


def test_a_waiting_prefetch_that_loses_its_slot_is_cancelled(queue: Queue) -> None:
    drop(queue, 0, 3, 200)
    assert waiting(queue) == [0, 1]
    assert (queue.arrival[0, 3], queue.meant[0, 3], queue.engine[0, QUEUED]) == (0, 0, 200)


def test_a_copied_one_that_loses_its_slot_was_not_in_the_queue(queue: Queue) -> None:
    advance(queue, COPY_NS, SIZES, LOCAL, 0, 6)
    drop(queue, 0, 3, 200)
    assert waiting(queue) == [0, 1]
    assert (queue.arrival[0, 3], queue.meant[0, 3], queue.engine[0, QUEUED]) == (0, 0, 200)


def test_what_was_issued_before_now_has_begun(queue: Queue) -> None:
    """Expert 3 from 5 to 25; 0 is issued at 30, after now, until when the engine has been idle."""
    advance(queue, COPY_NS, SIZES, LOCAL, 0, 26)
    assert waiting(queue) == [0, 1]
    assert queue.arrival[0, 3] == 25
    assert queue.engine[0].tolist() == [26, 200, 25, 200]
    assert queue.ended[0, :, :, 0, BEGUN].tolist() == [[0, 0], [1, 0]]


def test_one_that_could_start_now_has_not(queue: Queue) -> None:
    advance(queue, COPY_NS, SIZES, LOCAL, 0, 30)
    assert waiting(queue) == [0, 1]
    advance(queue, COPY_NS, SIZES, LOCAL, 0, 31)
    assert waiting(queue) == [1]
    assert queue.arrival[0, 0] == queue.engine[0, FREE] == queue.engine[0, FLIGHT_END] == 40
    assert queue.engine[0, FLIGHT_BYTES] == 100


def test_none_is_interrupted(queue: Queue) -> None:
    """25 is the end of the first; 40 and 50 those of the others, one behind the other."""
    advance(queue, COPY_NS, SIZES, LOCAL, 0, 100)
    assert waiting(queue) == []
    assert queue.arrival[0].tolist() == [40, 50, 0, 25]
    assert queue.engine[0].tolist() == [100, 0, 50, 100]
    assert queue.ended[0, :, :, 0, BEGUN].tolist() == [[0, 2], [1, 0]]
