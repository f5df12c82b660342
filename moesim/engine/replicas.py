"""Replicas of an engine on one clock: each plays in a thread of its own, one at a time, so that a
router sees all of them as of the instant at which a request comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from queue import Queue
from threading import Thread

import numpy as np

from moesim.config.errors import InputError
from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.trace.routing import NO_EXPERT
from moesim.workload.schedule import Schedule
from moesim.workload.serving.recent_experts import Experts
from moesim.workload.serving.run import nothing_served
from moesim.workload.serving.state import STEPS
from moesim.workload.timetable import Passes

Play = Callable[[Case], Outcome]


class _Replica:
    """An engine that is handed its passes one by one, and says when GPUs ended each."""

    def __init__(self, case: Case, play: Play) -> None:
        self.case, self.play = replace(case, scheduler=self._passes), play
        self.outcome: Outcome | None = None
        self._given: Queue[Schedule | None] = Queue()
        self._said: Queue[Ints | BaseException] = Queue()
        self._thread: Thread | None = None

    def _passes(self) -> Passes:
        while (one := self._given.get()) is not None:
            self._said.put((yield one))

    def _run(self) -> None:
        try:
            self.outcome = self.play(self.case)
        except BaseException as error:  # noqa: BLE001 (raised again by who waits)
            self._said.put(error)

    def after(self, one: Schedule) -> int:
        """When the last GPU has ended the pass ``one``, its next one."""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        self._given.put(one)
        said = self._said.get()
        if isinstance(said, BaseException):
            raise said
        return int(said.max())

    def end(self) -> None:
        """There are no more passes."""
        self._given.put(None)
        if self._thread is not None:
            self._thread.join()


def play_replicas(
    case: Case, play: Play
) -> tuple[list[Outcome | None], list[tuple[int, int]], Case]:
    """The outcome of each replica of ``case`` as ``play`` plays it (None: it had no request), who
    made which of its passes after whom, as (replica, pass), and the case with what has become of
    its requests.
    """
    serving = case.serving
    assert serving is not None, "requests are served"
    fleet = serving.fleet()
    fleet.sees(_experts_of(case))
    replicas = [_Replica(case, play) for _ in fleet.servers]
    source, turns = fleet.turns(), list[tuple[int, int]]()
    try:
        number, state, start, host = next(source)
        while True:
            step = int(state.numbers[STEPS]) - 1
            turns.append((number, step))
            ended = replicas[number].after(serving.step(state, step, start, host))
            number, state, start, host = source.send(ended)
    except StopIteration:
        pass
    finally:
        for one in replicas:
            one.end()
    if not turns:
        raise InputError(nothing_served(fleet.servers[-1].state, serving.room.longest))
    return [one.outcome for one in replicas], turns, replace(case, serving=serving.after(fleet))


def _experts_of(case: Case) -> Experts:
    """What tokens of ``case`` choose, and the slots of its GPUs together."""
    serving, trace, experts = case.serving, case.trace, case.trace.metadata.experts
    assert serving is not None, "requests are served"

    def choices(request: Ints, token: Ints) -> Ints:
        ids = trace.expert_ids[serving.served.rows(request, token)].astype(np.int64)
        return np.where(ids == NO_EXPERT, -1, ids)

    slots = case.slots.max(axis=0) if case.slices > 1 else case.slots.sum(axis=0)
    return Experts(choices, experts, np.minimum(slots, experts))
