"""Replicas of an engine on one clock: each plays in a thread of its own, one at a time, so that a
router sees all of them as of the instant at which a request comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from threading import Thread

import numpy as np

from moesim.config.errors import InputError
from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.engine.progress import Progress
from moesim.trace.routing import NO_EXPERT
from moesim.workload.serving.fleets.recent_experts import Experts
from moesim.workload.serving.run import nothing_served
from moesim.workload.serving.stepping.clock import Server
from moesim.workload.serving.stepping.led import Led

Play = Callable[[Case], Outcome]
TURNS_TOLD = 16
"""Turns of replicas from one word of progress to the next: to count takes as long as some."""


class _Replica:
    """An engine that plays what ``server`` decides, in a thread of its own."""

    def __init__(self, case: Case, play: Play, server: Server) -> None:
        assert case.serving is not None, "requests are served"
        self._led = Led(server)
        serving = replace(case.serving, led=self._led)
        self.case, self.play = replace(case, serving=serving, scheduler=serving.passes), play
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self._thread: Thread | None = None

    def _run(self) -> None:
        try:
            self.outcome = self.play(self.case)
        except BaseException as error:  # noqa: BLE001 (raised again by who waits, or has ended)
            self.error = error
            self._led.fail(error)

    def end_of_last(self) -> int:
        """When the last GPU has ended the step that its server has decided last."""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        return self._led.end_of_last()

    def end(self) -> None:
        """There are no more steps."""
        self._led.end()
        if self._thread is not None:
            self._thread.join()


def play_replicas(
    case: Case, play: Play, progress: Progress | None = None
) -> tuple[list[Outcome | None], list[tuple[int, int]], Case]:
    """The outcome of each replica of ``case`` as ``play`` plays it (None: it had no request), who
    made which of its passes after whom, as (replica, pass), and the case with what has become of
    its requests. ``progress`` is told how many of these have all their tokens.
    """
    serving = case.serving
    assert serving is not None, "requests are served"
    fleet = serving.fleet()
    fleet.sees(_experts_of(case))
    replicas = [_Replica(case, play, server) for server in fleet.servers]
    source = fleet.turns()
    try:
        number, *_ = next(source)
        for turn in count():
            if progress is not None and turn % TURNS_TOLD == 0:
                progress(fleet.finished, fleet.asked.count)
            number, *_ = source.send(replicas[number].end_of_last())
    except StopIteration:
        pass
    finally:
        for one in replicas:
            one.end()
    for one in replicas:  # its last steps may be known before it has counted them
        if one.error is not None:
            raise one.error
    turns = fleet.order()
    if not turns:
        raise InputError(nothing_served(fleet.servers[-1].state, serving.room.longest))
    if progress is not None:
        progress(fleet.finished, fleet.asked.count)
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
