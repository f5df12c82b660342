"""One point of a sweep: an experiment, and how it becomes a line of the sweep's log."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.config.errors import ChangedError, InputError
from moesim.experiment.loading.once import read_once
from moesim.results import Result
from moesim.results.store import POINTS, Entry, Finished, PackFile

if TYPE_CHECKING:
    from moesim.config.files.inputs import Inputs
    from moesim.engine.replay.log import DecisionLog
    from moesim.experiment.loading.traces import SharedTrace, TraceSource

Evaluate = Callable[[Any], Result]
"""Runs an experiment; picklable."""

_packs = threading.local()


@dataclass(frozen=True)
class Point:
    """A point's number in the order of the axes, its experiment, and the number of the group in
    which only prices differ, if it is in one.
    """

    number: int
    experiment: Any
    group: int | None = None


def point_folder(sweep: Path, number: int) -> Path:
    """What names point ``number`` of a sweep wherever the folder of a run is asked for."""
    return sweep / POINTS / f"{number:04d}"


@dataclass(frozen=True)
class Simulation:
    """The evaluation of a sweep's points unless another is given: one simulated run.

    ``traces`` says where traces lie as arrays, ``cache`` where results are that may be used again,
    ``log`` what one point leaves for the next in the same process, ``inputs`` what the points read
    (None: whatever there is): where there is anything else, a ChangedError ends the sweep.
    """

    traces: Mapping[TraceSource, SharedTrace] = field(default_factory=dict)
    inputs: Inputs | None = None
    cache: Path | None = None
    log: DecisionLog | None = None

    def __call__(self, experiment: Any) -> Result:
        """The result of ``experiment``."""
        from moesim.experiment.loading.inputs import still
        from moesim.experiment.loading.traces import shared_traces
        from moesim.experiment.running.cache import reused_or
        from moesim.experiment.running.run import simulate

        run = partial(simulate, log=self.log)
        with shared_traces(self.traces):
            if self.cache is None:
                known = self.inputs if self.inputs is None else still(self.inputs, experiment)
                return run(experiment, inputs=known)
            return reused_or(run, experiment, self.cache, self.inputs)


@dataclass(frozen=True)
class Batch:
    """Points that are finished, as lines of the log, and the seconds that they took."""

    entries: list[Entry]
    seconds: float


@dataclass(frozen=True)
class Work:
    """What a process does with points: evaluate them, and put the results in a pack of its own."""

    evaluate: Evaluate
    folder: Path

    @read_once()
    def __call__(self, points: Sequence[Point]) -> Batch:
        """Evaluate ``points``; what comes back is on the disk."""
        start = time.perf_counter()
        outcomes = [self._outcome(point) for point in points]
        entries = [one for one in outcomes if isinstance(one, Entry)]
        if finished := [one for one in outcomes if isinstance(one, Finished)]:
            entries += self._pack().append(finished)
        return Batch(entries, time.perf_counter() - start)

    def _outcome(self, point: Point) -> Finished | Entry:
        try:
            return Finished.of(point.number, self.evaluate(point.experiment))
        except ChangedError:
            raise
        except Exception as error:  # noqa: BLE001 (any failure is a row of the sweep, never its end)
            return failure(point.number, reason_of(error), traceback.format_exc())

    def _pack(self) -> PackFile:
        """A pack for each thread: a cluster's worker may have several."""
        packs: dict[Path, PackFile] = vars(_packs).setdefault("by_folder", {})
        return packs.setdefault(self.folder, PackFile(self.folder))


def failure(number: int, reason: str, details: str = "") -> Entry:
    """The line of a point that could not be evaluated."""
    return Entry(number, {"status": "failed", "reason": reason}, details=details)


def reason_of(error: Exception) -> str:
    """One line for the row of a point that raised ``error``."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
