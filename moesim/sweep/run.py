"""Run all points of an experiment; started again, it goes on where it ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import TEMPORARY
from moesim.config.files.inputs import Inputs, paths_of
from moesim.results import write_result
from moesim.results.folder import SUMMARY
from moesim.results.overwrite import (
    BEFORE,
    check_no_input,
    check_replaceable,
    drop_before,
    set_aside,
)
from moesim.results.result import plain_experiment
from moesim.results.store import (
    PACKS,
    POINTS,
    LogWriter,
    read_entry,
    read_log,
    remove_leftovers,
)
from moesim.runtime.memory import available_bytes
from moesim.sweep.executor import Executor, in_this_process
from moesim.sweep.groups import groups_of
from moesim.sweep.identity import claim, identity, is_sweep
from moesim.sweep.local import LocalProcesses
from moesim.sweep.lock import hold_alone, workers_lock
from moesim.sweep.point import Evaluate, Point, Simulation, Work, point_folder
from moesim.sweep.table import points_table, write_points
from moesim.sweep.where_pays import WherePays, sharing_traces

if TYPE_CHECKING:
    import pandas as pd

BYTES_EACH = 4 * GIB
"""What a process that nobody asked for may take; most points take half a GiB."""
Points = Sequence[tuple[Mapping[str, Any], Any]]
"""Each point's axes by path, and its experiment, in the order of the axes."""


class Progress(Protocol):
    """Told about the sweep's progress."""

    def __call__(self, finished: int, total: int) -> None:
        """``finished`` of ``total`` points stand."""
        ...


@dataclass(frozen=True)
class SweepOptions:
    """How points are evaluated: by ``jobs`` processes of this machine (1: in this one; None: here,
    too, or in one for each core that has 4 GiB, where that is faster), or by ``executor``.

    ``cache``: as for ``moesim.run``. ``retry_failed``: failed points once more; ``overwrite``: all
    points anew, in a folder that holds only what moesim wrote, which stays in ``.before`` there
    until all points have a result; ``folders``: write each point as a
    result folder, too.
    """

    jobs: int | None = 1
    executor: Executor | None = None
    cache: Path | None = None
    retry_failed: bool = False
    overwrite: bool = False
    folders: bool = False


def run_sweep(
    experiment: Any,
    points: Points,
    out: Path | str,
    *,
    options: SweepOptions | None = None,
    evaluate: Evaluate | None = None,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate every point that has no result yet in ``out`` and return the table of all.

    ``experiment`` is what the points were made from, ``inputs`` what they read (None: found out,
    unless ``evaluate`` is given): a folder that holds a sweep over anything else raises an
    InputError naming the difference, as does a file that changes meanwhile. A finished point is
    never evaluated again, unless the ``options`` say so, nor simulated where ``evaluate`` is given.
    """
    how = options or SweepOptions()
    folder = _open(Path(out), overwrite=how.overwrite)
    if inputs is None:
        inputs = {} if evaluate else _inputs(points)
    with hold_alone(folder):
        if how.overwrite:
            check_no_input(folder, paths_of(inputs))
            set_aside(folder)
            (folder / PACKS).mkdir()
        claim(folder, identity(plain_experiment(experiment), [a for a, _ in points], inputs))
        _clean(folder)
        todo = unfinished(folder, points, retry_failed=how.retry_failed)
        work = how.executor or _executor(how.jobs, folder)
        simulation = Simulation(inputs=inputs, cache=how.cache)
        with _evaluation(evaluate or simulation, work, todo, folder) as chosen:
            count = _counter(progress, len(points) - len(todo), len(points))
            _evaluate(work, todo, Work(chosen, folder.absolute()), count)
        table = points_table(folder)
        write_points(folder, table)
        if how.folders:
            write_folders(folder)
        if not has_failures(folder):
            drop_before(folder)
    return table


def _inputs(points: Points) -> Inputs:
    """What ``points`` read."""
    from moesim.experiment.loading.inputs import inputs_of

    return inputs_of(one for _, one in points)


def has_failures(folder: Path) -> bool:
    """Whether a point of the sweep in ``folder`` has no result."""
    return any(entry.pack is None for entry in read_log(folder).values())


def unfinished(folder: Path, points: Points, *, retry_failed: bool = False) -> list[Point]:
    """The points without a result in ``folder``, group by group, else in order."""
    done, groups = read_log(folder), groups_of([axes for axes, _ in points])
    left = [
        Point(number, experiment, group)
        for number, ((_, experiment), group) in enumerate(zip(points, groups, strict=True))
        if number not in done or (retry_failed and done[number].pack is None)
    ]
    return sorted(left, key=attrgetter("group"))


def write_folders(folder: Path) -> None:
    """Write each finished point of the sweep in ``folder`` as a result folder of its own."""
    for number, entry in read_log(folder).items():
        target = point_folder(folder, number)
        if entry.pack is not None and not (target / SUMMARY).is_file():
            write_result(read_entry(folder, entry), target)


def _executor(jobs: int | None, folder: Path) -> Executor:
    number = jobs or min(_cores(), available_bytes() // BYTES_EACH)
    if number <= 1:
        return in_this_process
    processes = LocalProcesses(number, workers_lock(folder))
    return processes if jobs else WherePays(processes)


def _cores() -> int:
    """The cores that this process may use."""
    allowed: Any = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@contextmanager
def _evaluation(
    evaluate: Evaluate,
    work: Executor,
    todo: Sequence[Point],
    folder: Path,
) -> Iterator[Evaluate]:
    """What the points are evaluated with: where other processes simulate, they share traces."""
    if not isinstance(evaluate, Simulation) or not todo:
        yield evaluate
        return
    from moesim.engine.replay.log import DecisionLog

    groups = {point.group for point in todo}
    simulation = replace(evaluate, log=DecisionLog(decisions=len(groups) < len(todo)))
    if work is in_this_process or isinstance(work, WherePays):
        yield simulation
        return
    with sharing_traces(simulation, todo, folder) as shared:
        yield shared


def _evaluate(
    executor: Executor, todo: Sequence[Point], work: Work, count: Callable[[int], None]
) -> None:
    """Log what ``executor`` has finished, and only that."""
    count(0)
    if not todo:
        return
    with closing(executor(todo, work)) as finished, LogWriter(work.folder) as log:
        for batch in finished:
            log.add(batch.entries)
            count(len(batch.entries))


def _counter(progress: Progress | None, finished: int, total: int) -> Callable[[int], None]:
    """Tells ``progress`` where it stands, a call's points later each time."""

    def count(more: int) -> None:
        nonlocal finished
        finished += more
        if progress:
            progress(finished, total)

    return count


def _open(folder: Path, *, overwrite: bool) -> Path:
    """The folder of a sweep: a new or an empty one, or one that holds a sweep; with ``overwrite``
    one that holds anything that moesim wrote.
    """
    if overwrite:
        check_replaceable(folder)
    elif folder.is_dir() and any(folder.iterdir()) and not is_sweep(folder):
        names = {path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY)}
        if not names <= {".lock", ".lock-workers", PACKS, BEFORE}:
            what = f"'{folder}' holds files but no sweep; name a new or an empty folder"
            raise InputError([Problem("--out", "", what)])
    try:
        (folder / PACKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"'{folder}' cannot be written ({error.strerror})"
        raise InputError([Problem("--out", "", what)]) from error
    return folder


def _clean(folder: Path) -> None:
    """Remove what a killed sweep left half-written; its processes are gone by now."""
    for path in (*folder.glob(f"{TEMPORARY}*"), *(folder / POINTS).glob(f"{TEMPORARY}*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    remove_leftovers(folder)
