"""Points in this process as long as processes of their own would cost more than they save."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from moesim.config.files.files import TEMPORARY
from moesim.sweep.local import LocalProcesses
from moesim.sweep.point import Batch, Evaluate, Point, Simulation, Work

PAYS_S = 15.0
"""To import, load compiled code and take in traces takes a process some 3 s (measured: advice of 48
runs, 14 s in one process, 37 processor seconds in three times two).
"""


@dataclass(frozen=True)
class WherePays:
    """An executor that evaluates points here until what is left seems to take longer than
    ``PAYS_S``; then ``processes`` do the rest.
    """

    processes: LocalProcesses

    def __call__(self, points: Sequence[Point], work: Work) -> Generator[Batch]:
        """Do ``work`` on ``points`` and yield those that are finished."""
        begun, first_s = perf_counter(), 0.0
        for done, point in enumerate(points, 1):
            yield work([point])
            rest, took_s = points[done:], perf_counter() - begun
            first_s = first_s or took_s
            # the first one loads what all need
            left_s = took_s if done == 1 else (took_s - first_s) / (done - 1) * len(rest)
            if len(rest) > 1 and left_s > PAYS_S:
                with sharing_traces(work.evaluate, rest, work.folder) as evaluate:
                    yield from self.processes(rest, replace(work, evaluate=evaluate))
                return


@contextmanager
def sharing_traces(evaluate: Evaluate, points: Sequence[Point], folder: Path) -> Iterator[Evaluate]:
    """What evaluates ``points`` in other processes, which read their traces from ``folder``
    meanwhile.
    """
    if not isinstance(evaluate, Simulation):
        yield evaluate
        return
    from moesim.experiment.loading.traces import write_shared

    arrays = folder.absolute() / f"{TEMPORARY}traces"
    try:
        shared = write_shared([point.experiment for point in points], arrays)
        yield replace(evaluate, traces=shared)
    finally:
        shutil.rmtree(arrays, ignore_errors=True)
