"""``moesim calibrate host``: what experts on the CPU reach of the memory, from one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, ExperimentFile, Overrides, examples, print_json, warn
from moesim.cli.calibrate.app import app
from moesim.config.errors import InputError, Problem


def _renamed(value: str | None) -> None:
    if value is not None:
        raise InputError([Problem("--from-run", "", "is '--measured' now")])


@app.command(
    epilog=examples(
        'moesim calibrate host experiments/qwen3-on-a-desktop.yaml --measured "28 tokens/s"',
        "moesim calibrate host run.yaml --measured llama-bench.json -o my-host.yaml",
    )
)
def host(
    file: ExperimentFile,
    *,
    measured: Annotated[
        str,
        typer.Option(
            metavar="SPEED|FILE",
            help="What the run made, as in '17.8 tokens/s', or what llama-bench wrote.",
        ),
    ],
    from_run: Annotated[
        str | None,
        typer.Option(hidden=True, is_eager=True, callback=_renamed, help="The earlier name."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the run was, for the file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="HOST", help="The host's file to write (.yaml)."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Fit what experts on the CPU reach of the DRAM peak to one measured run, which FILE describes:
    model, machine, software, experts on the CPU.
    """
    from moesim.calibrate.host.fit import fit_host
    from moesim.calibrate.host.host_file import host_text
    from moesim.calibrate.host.measured import measured_run
    from moesim.calibrate.host.same import run_warnings
    from moesim.calibrate.profile_file import check_profile, write_profile
    from moesim.config.errors import check_apart
    from moesim.config.files.inputs import paths_of
    from moesim.experiment.loading.inputs import inputs_of
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.loading.warnings import of_inputs
    from moesim.experiment.schema.origins import placed
    from moesim.report.judged.host import lines

    del from_run
    run = measured_run(measured)
    resolved = load_experiment(file, overrides or (), alone=True)
    if out is not None:
        check_profile(out)
        check_apart(out, file, Path(measured), *paths_of(inputs_of([resolved.experiment])))
    with placed(resolved.origins, resolved.file):
        found = fit_host(resolved.experiment, run)
    warn([*of_inputs([resolved.experiment]), *run_warnings(resolved.experiment, run)])
    if not as_json:
        typer.echo("\n".join(lines(found)))
    if out is None and not as_json:
        typer.echo("nothing is written; -o my-host.yaml writes a host to use")
        return
    told_json = {"told": list(lines(found)), "file": out and str(out)}
    if out is None:
        print_json(told_json)
        return
    title = f"Host of {found.profile.title}, fitted to one run"
    told = source or run.source or f"the run of {file.name}"
    write_profile(out, host_text(found, title, told))
    if as_json:
        print_json(told_json)
        return
    typer.echo(f"{out}: use it with 'hardware: {{gpu: ..., host: {out}}}'")
