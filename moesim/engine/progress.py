"""How far a run has come, for who waits for it."""

from __future__ import annotations

from collections.abc import Callable

from moesim.engine.case import Case
from moesim.workload.serving.state import ENDED, STATUS, State

Progress = Callable[[int, int], None]
"""Told how many passes, or requests that are served, stand, and of how many."""


class Standing:
    """Tells ``progress``, if there is one, how far ``case`` is."""

    def __init__(self, case: Case, progress: Progress | None) -> None:
        self.case, self._progress = case, progress

    def after(self, passes: int, state: State | None = None) -> None:
        """So many ``passes`` have been played; ``state``: of requests, if it is not the case's."""
        if self._progress is None:
            return
        serving, schedule = self.case.serving, self.case.schedule
        if serving is None:
            self._progress(passes, schedule.passes)
            return
        requests, state = serving.served.asked.count, state or serving.state
        if not schedule.grows:
            self._progress(requests * passes // max(schedule.passes, 1), requests)
        elif state is not None:
            self._progress(int((state.requests[STATUS] >= ENDED).sum()), requests)
