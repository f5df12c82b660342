"""An engine that plays the steps of a server in a thread of its own, while another one decides what
comes to that server, and when.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue

import numpy as np

from moesim.workload.schedule import Ints, Schedule
from moesim.workload.serving.state import STEPS, State
from moesim.workload.serving.stepping.ahead import BACK, STARTS
from moesim.workload.serving.stepping.clock import Server
from moesim.workload.serving.stepping.cycles import must_be_short
from moesim.workload.serving.stepping.foreseen import Foresight
from moesim.workload.serving.stepping.host import START, TAKES
from moesim.workload.timetable import Passes

OfSteps = Callable[[State, int, int, tuple[Ints, Ints]], Schedule]


class Led:
    """What the two say to each other: who decides waits until steps have been played, and then goes
    on as long as those that it decides are these; only then does the engine go on.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.goes_on = True
        self._foresight: Foresight | None = None
        self._told: Queue[tuple[Ints, bool]] = Queue()
        self._ended: Queue[Ints | BaseException] = Queue()
        self._ends = np.zeros(0, np.int64)
        self._steps, self._number = np.zeros((2, 0), np.int64), 0

    # who decides

    def end_of_last(self) -> int:
        """When the step that was decided last ends on the last GPU."""
        if self._number and not self._is_foreseen():
            self.end(goes_on=True)
        if not self._number:
            self._ends = self._played()
            self._steps = np.empty((2, len(self._ends)), np.int64)
        self._steps[:, self._number] = self.server.host[[START, TAKES]]
        self._number += 1
        return int(self._ends[self._number - 1])

    def end(self, *, goes_on: bool = False) -> None:
        """No more of what was played last holds; whether there is anything to play instead."""
        self._told.put((self._steps[:, : self._number], goes_on))
        self._number = 0

    def _is_foreseen(self) -> bool:
        number, foresight = self._number, self._foresight
        if number == len(self._ends) or foresight is None:
            return False
        start = foresight.pace[STARTS, BACK + number]
        return bool(start == self.server.host[START]) and foresight.has_last()

    def _follow(self, until: int) -> bool:
        """See ``Server.follows``."""
        assert self._foresight is not None, "steps are foreseen"
        first, number = int(self.server.state.numbers[STEPS]), self._number
        steps = self._steps if number else self._steps[:, :0]
        self._number = self._foresight.follow(steps, number, until)
        return int(self.server.state.numbers[STEPS]) - first > self._number - number

    def _played(self) -> Ints:
        ended = self._ended.get()
        if isinstance(ended, BaseException):
            raise ended
        return ended

    # the engine

    def fail(self, error: BaseException) -> None:
        """The engine cannot go on."""
        self._ended.put(error)

    def tell(self, ended: Ints) -> Ints:
        """The steps from the last one on have ``ended``; of those of them that hold when each
        starts at the earliest, and so long before the host works on it, int64[2, steps].
        """
        self._ended.put(ended)
        told, self.goes_on = self._told.get()
        return told

    def passes(self, of: OfSteps) -> Passes:
        """What ``of`` makes of one step after the other."""
        while self.goes_on:
            state, host = self.server.state, self.server.host
            must_be_short(state)
            step = int(state.numbers[STEPS]) - 1
            ended = yield of(state, step, step + 1, (host[[START]], host[[TAKES]]))
            self.tell(np.array([ended.max()]))

    def foresight(self) -> Foresight:
        """What decides steps ahead as if nothing more came."""
        self._foresight, self.server.follows = _OfLed(self), self._follow
        return self._foresight


class _OfLed(Foresight):
    def __init__(self, led: Led) -> None:
        super().__init__(led.server)
        self._led = led

    def foresee(self, most: int) -> int:
        return super().foresee(most) if self._led.goes_on else 0

    def hold(self, ends: Ints) -> tuple[int, Ints]:
        first = self._play(ends)
        told = self._led.tell(ends)
        held = told.shape[1]
        self._learn(first, len(ends), held)
        return held, told

    def _must_end(self) -> None:
        must_be_short(self.state)

    def _last(self) -> int:
        return int(self.state.requests.shape[1])
