"""``moesim.sweep``: every point of an experiment, as 'moesim sweep' evaluates them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from moesim.config.arguments import check_out, check_whole
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import write_whole
from moesim.config.files.inputs import Inputs, outdated
from moesim.config.warn import Warn, as_warning
from moesim.experiment.loading.inputs import check_inputs, inputs_of
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.resolve import Resolved, Source, resolved_from
from moesim.experiment.loading.warnings import empty_slots, left_out_figures, of_inputs
from moesim.experiment.running.cache import cache_folder
from moesim.experiment.running.large_records import large_records
from moesim.experiment.schema.origins import placed
from moesim.results.folder import EXPERIMENT, experiment_text
from moesim.results.overwrite import check_no_input
from moesim.results.rebuild import whole_path
from moesim.results.result import plain_experiment
from moesim.sweep.executor import Executor
from moesim.sweep.found import Sweep, read_sweep
from moesim.sweep.run import Progress, SweepOptions, run_sweep


@read_once()
def sweep(
    experiment: Source | Resolved,
    out: Path | str | None = None,
    *,
    jobs: int | None = 1,
    overrides: Sequence[str] = (),
    cache: Path | str | None = None,
    executor: Executor | None = None,
    retry_failed: bool = False,
    folders: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    warn: Warn = as_warning,
) -> Sweep:
    """Simulate every point of ``experiment`` (a file, a dictionary, an ``Experiment``) into ``out``
    [results/NAME], and return the sweep; one that was interrupted goes on where it ended.

    ``jobs`` processes (None: one, or one a core where that is faster), or ``executor``
    (``moesim.sweep.dask.DaskCluster``). ``overrides``: what ``--set`` takes. ``cache``: a folder of
    results that are used again where nothing that decides them has changed. ``retry_failed``:
    evaluate failed points once more; ``folders``: write each point as a result folder, too;
    ``overwrite``: begin anew in a folder that holds only what moesim wrote, which stays in
    ``.before`` there until all points have a result. ``progress``, called with (finished, total),
    is told how far it is, ``warn`` what does not come about as written. Raises an InputError for a
    bad experiment, one without axes, and an ``out`` that holds something else. In a script, call it
    under ``if __name__ == "__main__":``, since ``jobs`` but 1 may start processes.

    >>> found = moesim.sweep("experiments/quickstart.yaml", "results/all")
    >>> found.best()["output_throughput"]
    """
    check_out(out)
    check_whole("--jobs", 1 if jobs is None else jobs)
    resolved = resolved_from(experiment, overrides)
    kept = None if cache is None else cache_folder(str(cache))
    _check(resolved, warn)
    folder = Path(out) if out is not None else Path("results") / resolved.experiment.name
    if overwrite:
        check_no_input(folder, [resolved.file])
    inputs = inputs_of(point for _, point in resolved.points)
    run_sweep(
        resolved.experiment,
        resolved.points,
        folder,
        options=SweepOptions(
            jobs=jobs,
            executor=executor,
            cache=kept,
            folders=folders,
            retry_failed=retry_failed,
            overwrite=overwrite,
        ),
        inputs=inputs,
        progress=progress,
    )
    write_whole(folder / EXPERIMENT, _again(resolved, inputs))
    found = read_sweep(folder)
    for line in (*outdated(inputs), *_never_filled(resolved, found)):
        warn(line)
    return found


def _again(resolved: Resolved, inputs: Inputs) -> str:
    """The experiment's file, which names files by their whole paths."""
    plain = plain_experiment(resolved.experiment)
    for (key, name), (file, *_) in inputs.items():
        if plain.get(key) == name and (whole := whole_path(name, file.path)):
            plain[key] = whole
    return experiment_text(plain)


def _never_filled(resolved: Resolved, found: Sweep) -> list[str]:
    """A line for the points whose slots begin empty and which nothing ever fills."""
    points, table = Counter[str](), found.table
    done = table["status"] == "ok"
    for number, (_, experiment) in enumerate(resolved.points):
        if done.iloc[number]:
            known = table.iloc[number].dropna()
            points.update(empty_slots(experiment, {str(key): known[key] for key in known.index}))
    return [f"{line} ({of_line} of {len(found.table)} points)" for line, of_line in points.items()]


def _check(resolved: Resolved, warn: Warn) -> None:
    """An InputError where there is nothing to sweep, or an input does not fit."""
    if not resolved.experiment.sweep:
        what = "has no axes to sweep; add them under 'sweep:', or use 'moesim run'"
        raise InputError([Problem(str(resolved.file), "sweep", what)])
    experiments = [experiment for _, experiment in resolved.points]
    with placed(resolved.origins, resolved.file):
        check_inputs(experiments)
        lines = [*of_inputs(experiments), *large_records(experiments)]
    for line in (*lines, *left_out_figures(resolved.experiment, resolved.axes)):
        warn(line)
