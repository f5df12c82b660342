"""``moesim sweep``: every point of an experiment's axes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moesim.cli.app import (
    AllowDrops,
    AsJson,
    Cache,
    ExperimentFile,
    Overrides,
    Overwrite,
    Report,
    RunsAtOnce,
    app,
    examples,
    fail,
    print_json,
    show_page,
    terminal,
    warn,
)
from moesim.cli.progress import INTERRUPTED, progress_bar
from moesim.cli.run import Engine
from moesim.cli.so_far import SoFar, goes_on, kept_before

if TYPE_CHECKING:
    from moesim.sweep.executor import Executor
    from moesim.sweep.found import Sweep

LONGEST_TABLE = 60
"""Points beyond this are in the files only."""
UNFITTED = 10_000
"""Characters of a line in a file or a pipe, where nothing need fit a screen."""


class Where(StrEnum):
    """Where points are evaluated."""

    LOCAL = "local"
    DASK = "dask"


@app.command(
    epilog=examples(
        "moesim sweep experiments/quickstart.yaml -j 2 --watch",
        "moesim sweep experiments/quickstart.yaml --set sweep.seed=[0,1] --overwrite",
    )
)
def sweep(
    file: ExperimentFile,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="A new folder, or one to go on in [results/NAME]."
        ),
    ] = None,
    jobs: RunsAtOnce = None,
    engine: Engine = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Evaluate failed points once more.")
    ] = False,
    overwrite: Overwrite = False,
    cache: Cache = None,
    executor: Annotated[
        Where, typer.Option("--executor", help="Where: this machine, or a dask cluster.")
    ] = Where.LOCAL,
    dask_address: Annotated[
        str | None,
        typer.Option(
            "--dask-address", metavar="ADDRESS", help="Its scheduler [a cluster of -j here]."
        ),
    ] = None,
    folders: Annotated[
        bool, typer.Option("--folders", help="Write each point as a result folder, too.")
    ] = False,
    allow_drops: AllowDrops = False,
    report: Report = False,
    as_json: AsJson = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Write the page while the sweep goes on, too: what is found so far."
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Simulate every point of an experiment's sweep; started again, it goes on where it ended.

    The exit code is 1 where a point failed.
    """
    from moesim.config.counted import counted
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.cache import cache_folder
    from moesim.sweep.swept import sweep as sweep_points

    settings = [*(overrides or ()), *([f"engine={engine}"] if engine else [])]
    resolved = load_experiment(file, settings)
    folder = out or Path("results") / resolved.experiment.name
    try:
        so_far = SoFar(folder, watch=watch)
        with progress_bar() as told:
            found = sweep_points(
                resolved,
                folder,
                jobs=jobs,
                executor=cluster(executor, dask_address, jobs),
                cache=cache_folder(cache),
                folders=folders,
                retry_failed=retry_failed,
                overwrite=overwrite,
                progress=lambda done, of: told(done, of, so_far(done, of)),
                warn=lambda line: warn([line]),
            )
    except KeyboardInterrupt:
        fail(f"stopped; the finished points stay in {folder}{goes_on(folder)}", INTERRUPTED)
    if as_json:
        failed = print_sweep(found, allow_drops=allow_drops)
    else:
        failed = show(found, allow_drops=allow_drops)
    show_page(folder, report=report or watch, stderr=as_json)
    if failed:
        reasons = f"{folder}/points.csv has each 'reason'; --retry-failed tries again"
        reasons += kept_before(folder)
        fail(f"{failed} of {counted(len(resolved.points), 'point')} failed: {reasons}", 1)


def print_sweep(read: Sweep, *, allow_drops: bool) -> int:
    """Print the sweep as JSON: its axes, all points, the best one; returns how many failed."""
    best = read.best(allow_drops=allow_drops)
    print_json({
        "folder": str(read.folder),
        "axes": list(read.axes),
        "best": None if best is None else known(best.to_dict()),
        "points": [known(row) for row in read.table.to_dict("records")],
    })  # fmt: skip
    return int((read.table["status"] == "failed").sum())


def known(row: Mapping[Any, Any]) -> dict[str, Any]:
    """What of ``row`` is not missing."""
    return {str(key): value for key, value in row.items() if value == value and value is not None}  # noqa: PLR0124 (NaN is not itself)


def cluster(where: Where, address: str | None, jobs: int | None) -> Executor | None:
    """The cluster that was asked for; None for this machine's processes."""
    if where is Where.DASK:
        from moesim.sweep.dask import DaskCluster

        return DaskCluster(address, jobs or 1)
    if address is not None:
        fail("--dask-address names a cluster; write --executor dask, too")
    return None


def show(read: Sweep, *, allow_drops: bool) -> int:
    """Print the sweep's table (its first points, where there are many) and where it stands; returns
    the number of failed points.
    """
    from moesim.config.counted import counted
    from moesim.report.sweep.best import best_lines
    from moesim.report.sweep.table import sweep_table
    from moesim.results.store import read_log

    folder = read.folder
    console, axes = terminal(), read.varying or read.axes
    if not console.is_terminal:
        console.width = UNFITTED
    console.print(
        sweep_table(
            read.table,
            axes,
            console.width,
            most=LONGEST_TABLE,
            allow_drops=allow_drops,
            kept_up=read.kept_up,
        )
    )
    if len(read.table) > LONGEST_TABLE:
        typer.echo(f"... and {counted(len(read.table) - LONGEST_TABLE, 'more point')}")
    for line in best_lines(read, allow_drops=allow_drops):
        typer.echo(line)
    if reused := sum(entry.reused for entry in read_log(folder).values()):
        typer.echo(f"{reused} of {counted(len(read.table), 'point')} from the cache")
    typer.echo(f"table:  {folder}/points.csv\nnext:   moesim plot {folder}")
    return int((read.table["status"] == "failed").sum())
