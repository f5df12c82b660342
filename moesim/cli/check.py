"""``moesim check``: the whole experiment, and where each of its values came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from moesim.cli.app import AsJson, ExperimentFile, Overrides, app, examples, print_json, warn

if TYPE_CHECKING:
    from moesim.experiment.building.built import Built
    from moesim.experiment.loading.resolve import Resolved


@app.command(epilog=examples("moesim check experiments/quickstart.yaml --set hardware=rtx-4090"))
def check(file: ExperimentFile, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Print the whole experiment, with where each value is from; what a run of it would be refused
    for is an error, where a sweep sets other values a warning.
    """
    from moesim.config.counted import counted
    from moesim.experiment.building.derived import derived
    from moesim.experiment.loading.inputs import check_inputs
    from moesim.experiment.loading.once import read_once
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.loading.warnings import left_out_figures, of_inputs
    from moesim.experiment.running.large_records import large_records
    from moesim.experiment.schema.origins import placed
    from moesim.experiment.schema.text import annotated_text

    with read_once():
        resolved = load_experiment(file, overrides or ())
        with placed(resolved.origins, file):
            experiments = [experiment for _, experiment in resolved.points]
            check_inputs(experiments)
            warn([*of_inputs(experiments), *large_records(experiments)])
            warn(left_out_figures(resolved.experiment, resolved.axes))
            built: list[Built] = []
            shown, origins = derived(resolved.experiment, built)
            _check_run(resolved, built)
    if as_json:
        from_where = {**resolved.origins, **origins}
        print_json(
            {
                "experiment": shown.model_dump(mode="json"),
                "origins": {path: str(one) for path, one in from_where.items()},
                "points": len(resolved.points),
            }
        )
        return
    typer.echo(annotated_text(shown, {**resolved.origins, **origins}))
    if resolved.experiment.sweep:
        typer.echo(f"# sweep: {counted(len(resolved.points), 'point')}")


def _check_run(resolved: Resolved, built: list[Built]) -> None:
    """Refuse what a run refuses, for which something may be ``built``; of a sweep, whose points set
    other values, it is told.
    """
    from moesim.config.errors import InputError
    from moesim.experiment.running.engines import judged, ready

    try:
        if built:
            judged(resolved.experiment, built[-1])
        else:
            ready(resolved.experiment)
    except InputError as error:
        if not resolved.axes:
            raise
        warn(f"without the sweep's values it does not run: {one}" for one in error.problems)
