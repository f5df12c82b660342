"""Schedules whose steps take as long as one says, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from moesim.workload.serving.state import STEPS, State
from moesim.workload.serving.stepping.clock import Steps


def with_step_times(steps: Steps, time_of: Callable[[State, int], int]) -> State:
    """The state at the end where step ``s`` takes ``time_of(state, s)`` ns, without an engine."""
    state, start, _ = next(steps)
    with suppress(StopIteration):
        while True:
            step = int(state.numbers[STEPS]) - 1
            state, start, _ = steps.send(start + time_of(state, step))
    return state
