"""The queue of prefetches by hand, as docs/semantics.md plays it: first in, first out, behind what
the copy engine does. As it is written, and as compiled code has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from moesim.engine.replay.prefetch import queue as queues
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
from moesim.engine.replay.prefetch.types import QUEUE, in_place
from moesim.runtime.by_address import placed
from moesim.runtime.compiled import code_of, types

LAYERS, LOCAL = 2, 2
END = LAYERS * LOCAL
"""The column of the queue's ends."""
_INT = types.int64


@in_place(types.void(QUEUE, *[_INT] * 4), cache=True)
def _enter(queue: Any, gpu: int, expert: int, place: int, account: int) -> None:
    queues.enter(queue, gpu, expert, place, account)


@in_place(types.void(QUEUE, _INT, _INT), cache=True)
def _leave(queue: Any, gpu: int, expert: int) -> None:
    queues.leave(queue, gpu, expert)


@in_place(types.void(QUEUE, _INT, _INT), cache=True)
def _drop(queue: Any, gpu: int, expert: int) -> None:
    queues.drop(queue, gpu, expert)


@in_place(types.void(QUEUE, _INT, _INT), cache=True)
def _advance(queue: Any, gpu: int, now: int) -> None:
    queues.advance(queue, gpu, now)


class Ways(NamedTuple):
    """What is done with a queue, in one of two ways."""

    enter: Callable[..., None]
    leave: Callable[..., None]
    drop: Callable[..., None]
    advance: Callable[..., None]


def compiled(function: Any) -> Callable[..., None]:
    """A compiled ``function`` of a queue."""
    return lambda queue, *given: code_of(function)(placed(queue, QUEUE), *given)


@pytest.fixture(params=["written", "compiled"])
def of(request: pytest.FixtureRequest) -> Ways:
    """What is done with a queue."""
    if request.param == "written":
        return Ways(queues.enter, queues.leave, queues.drop, queues.advance)
    return Ways(*map(compiled, (_enter, _leave, _drop, _advance)))


@pytest.fixture
def queue(of: Ways) -> Queue:
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
        account=table(END),
        ended=np.zeros((1, LAYERS * 2, 4), np.int64),
        turns=2,
        shelf=np.repeat(np.arange(LAYERS), LOCAL)[None],
        bytes=np.array([100, 200]),
        copy_ns=np.array([10, 20]),
        waits=table(LAYERS),
        engine=table(4),
    )
    of.enter(made, 0, 3, 2, 2)  # layer 1 of pass 0
    of.enter(made, 0, 0, 3, 1)  # layer 0 of pass 1
    of.enter(made, 0, 1, 3, 1)
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
    assert queue.waits.tolist() == [[2, 1]]
    assert queue.meant[0].tolist() == [3, 3, 0, 2]
    assert queue.arrival[0].tolist() == [WAITING, WAITING, 0, WAITING]
    assert queue.ended[0, :, MEANT].tolist() == [0, 2, 1, 0]


def test_one_may_leave_from_between(of: Ways, queue: Queue) -> None:
    of.leave(queue, 0, 0)
    assert waiting(queue) == [3, 1]
    assert queue.engine[0, QUEUED] == 300
    assert queue.waits.tolist() == [[1, 1]]


def test_a_waiting_prefetch_that_loses_its_slot_is_cancelled(of: Ways, queue: Queue) -> None:
    of.drop(queue, 0, 3)
    assert waiting(queue) == [0, 1]
    assert (queue.arrival[0, 3], queue.meant[0, 3], queue.engine[0, QUEUED]) == (0, 0, 200)


def test_a_copied_one_that_loses_its_slot_was_not_in_the_queue(of: Ways, queue: Queue) -> None:
    of.advance(queue, 0, 6)
    of.drop(queue, 0, 3)
    assert waiting(queue) == [0, 1]
    assert (queue.arrival[0, 3], queue.meant[0, 3], queue.engine[0, QUEUED]) == (0, 0, 200)


def test_what_was_issued_before_now_has_begun(of: Ways, queue: Queue) -> None:
    """Expert 3 from 5 to 25; 0 is issued at 30, after now, until when the engine has been idle."""
    of.advance(queue, 0, 26)
    assert waiting(queue) == [0, 1]
    assert queue.arrival[0, 3] == 25
    assert queue.engine[0].tolist() == [26, 200, 25, 200]
    assert queue.ended[0, :, BEGUN].tolist() == [0, 0, 1, 0]


def test_one_that_could_start_now_has_not(of: Ways, queue: Queue) -> None:
    of.advance(queue, 0, 30)
    assert waiting(queue) == [0, 1]
    of.advance(queue, 0, 31)
    assert waiting(queue) == [1]
    assert queue.arrival[0, 0] == queue.engine[0, FREE] == queue.engine[0, FLIGHT_END] == 40
    assert queue.engine[0, FLIGHT_BYTES] == 100


def test_none_is_interrupted(of: Ways, queue: Queue) -> None:
    """25 is the end of the first; 40 and 50 those of the others, one behind the other."""
    of.advance(queue, 0, 100)
    assert waiting(queue) == []
    assert queue.arrival[0].tolist() == [40, 50, 0, 25]
    assert queue.engine[0].tolist() == [100, 0, 50, 100]
    assert queue.ended[0, :, BEGUN].tolist() == [0, 2, 1, 0]
