"""What Python users call beside ``moesim.run``: a sweep with the command line's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.experiment.cache import cache_folder
from moesim.experiment.inputs import input_files
from moesim.experiment.resolve import Source, load_experiment
from moesim.sweep.executor import Executor
from moesim.sweep.run import Progress
from moesim.sweep.run import run_sweep as run_points

if TYPE_CHECKING:
    import pandas as pd


def run_sweep(
    source: Source,
    out: Path | str,
    *,
    jobs: int = 1,
    overrides: Sequence[str] = (),
    cache: Path | str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run every point of the experiment ``source`` into the folder ``out``: a row a point.

    ``jobs`` processes, or ``executor`` (``moesim.sweep.dask.DaskCluster``); a sweep that was
    interrupted goes on where it ended. ``cache``: a folder of results that are used again where
    nothing that decides them has changed. Raises an InputError for a bad experiment, and for an
    ``out`` that holds something else.
    """
    resolved = load_experiment(source, overrides)
    inputs = input_files(experiment for _, experiment in resolved.points)
    return run_points(
        resolved.experiment,
        resolved.points,
        out,
        jobs=jobs,
        inputs=inputs,
        executor=executor,
        cache=cache_folder(str(cache)) if cache is not None else None,
        progress=progress,
    )
