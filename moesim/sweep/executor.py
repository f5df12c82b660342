"""Where the points of a sweep are evaluated: here, in local processes, elsewhere later."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from moesim.sweep.point import Evaluate, Point, evaluate_point


class Executor(Protocol):
    """Evaluates points in any order.

    Yields each point once its folder stands. Closing the iterator (also by an exception, ctrl-C
    for one) ends the work at once and leaves no process behind.
    """

    def __call__(self, points: Sequence[Point], evaluate: Evaluate) -> Generator[Point]:
        """Evaluate ``points`` with ``evaluate`` and yield each that is finished."""
        ...


def in_this_process(points: Sequence[Point], evaluate: Evaluate) -> Generator[Point]:
    """One point after another without another process: for debugging and short sweeps."""
    for point in points:
        evaluate_point(point, evaluate)
        yield point
