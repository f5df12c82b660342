"""Where the points of a sweep are evaluated: here, in local processes, on a cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from moesim.sweep.point import Batch, Point, Work


class Executor(Protocol):
    """Evaluates points in any order.

    Yields points once their results are on the disk. Closing the iterator (also by an exception,
    ctrl-C for one) ends the work at once and leaves no process behind.
    """

    def __call__(self, points: Sequence[Point], work: Work) -> Generator[Batch]:
        """Do ``work`` on ``points`` and yield those that are finished."""
        ...


def in_this_process(points: Sequence[Point], work: Work) -> Generator[Batch]:
    """One point after another without another process: for debugging and short sweeps."""
    for point in points:
        yield work([point])
