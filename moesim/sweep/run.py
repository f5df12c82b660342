"""Run all points of an experiment; started again, it goes on where it ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moesim.config.errors import InputError, Problem
from moesim.results.files import TEMPORARY
from moesim.results.result import plain_experiment
from moesim.sweep.executor import Executor, in_this_process
from moesim.sweep.identity import claim, identity, is_sweep
from moesim.sweep.local import LocalProcesses
from moesim.sweep.lock import hold_alone, workers_lock
from moesim.sweep.point import Evaluate, Point, point_folder, run_experiment
from moesim.sweep.table import points_table, summary_of, write_points

if TYPE_CHECKING:
    import pandas as pd

Points = Sequence[tuple[Mapping[str, Any], Any]]
"""Each point's axes by path, and its experiment, in the order of the axes."""


class Progress(Protocol):
    """Told about the sweep's progress."""

    def __call__(self, finished: int, total: int) -> None:
        """``finished`` of ``total`` points stand."""
        ...


def run_sweep(
    experiment: Any,
    points: Points,
    out: Path | str,
    *,
    jobs: int = 1,
    evaluate: Evaluate = run_experiment,
    inputs: Mapping[str, Path] | None = None,
    executor: Executor | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate every point that has no result yet in ``out`` and return the table of all.

    ``experiment`` is what the points were made from, ``inputs`` the files that it reads: a folder
    that holds a sweep over anything else raises an InputError naming the difference. ``executor``
    overrides ``jobs`` processes of this machine (1: in this process). A finished point is never
    evaluated again, except failed ones with ``retry_failed``.
    """
    folder = _open(Path(out))
    with hold_alone(folder):
        claim(folder, identity(plain_experiment(experiment), [a for a, _ in points], inputs or {}))
        _clean(folder)
        todo = unfinished(folder, points, retry_failed=retry_failed)
        work = executor or (
            in_this_process if jobs == 1 else LocalProcesses(jobs, workers_lock(folder))
        )
        _evaluate(work, todo, evaluate, _counter(progress, len(points) - len(todo), len(points)))
        table = points_table(folder)
        write_points(folder, table)
    return table


def unfinished(folder: Path, points: Points, *, retry_failed: bool = False) -> list[Point]:
    """The points without a result in ``folder``, in order."""
    everything = [
        Point(number, experiment, point_folder(folder, number))
        for number, (_, experiment) in enumerate(points)
    ]
    for point in everything:
        if retry_failed and point.finished and is_failed(folder, point.number):
            aside = point.folder.rename(point.folder.with_name(f"{TEMPORARY}{point.folder.name}"))
            shutil.rmtree(aside)
    return [point for point in everything if not point.finished]


def is_failed(folder: Path, number: int) -> bool:
    """Whether point ``number`` of the sweep in ``folder`` ended with an error."""
    return bool(summary_of(folder, number)["status"] == "failed")


def _evaluate(
    work: Executor, todo: Sequence[Point], evaluate: Evaluate, count: Callable[[], None]
) -> None:
    count()
    if not todo:
        return
    finished = work(todo, evaluate)
    with closing(finished):
        for _ in finished:
            count()


def _counter(progress: Progress | None, finished: int, total: int) -> Callable[[], None]:
    """Tells ``progress`` where it starts, then one more at each call."""
    numbers = iter(range(finished, total + 1))

    def count() -> None:
        number = next(numbers)
        if progress:
            progress(number, total)

    return count


def _open(folder: Path) -> Path:
    """The folder of a sweep: a new or an empty one, or one that holds a sweep."""
    if folder.is_dir() and any(folder.iterdir()) and not is_sweep(folder):
        names = {path.name for path in folder.iterdir()}
        if not names <= {".lock", ".lock-workers", "points"}:
            what = f"'{folder}' holds files but no sweep; name a new or an empty folder"
            raise InputError([Problem("--out", "", what)])
    try:
        (folder / "points").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"'{folder}' cannot be written ({error.strerror})"
        raise InputError([Problem("--out", "", what)]) from error
    return folder


def _clean(folder: Path) -> None:
    """Remove what a killed sweep left half-written; its processes are gone by now."""
    for path in (*folder.glob(f"{TEMPORARY}*"), *(folder / "points").glob(f"{TEMPORARY}*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
