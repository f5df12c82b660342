"""``moesim advise``: load, compute or read in place, and what to buy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moesim.cli.app import ExperimentFile, Overrides, Overwrite, app, examples, fail
from moesim.cli.progress import INTERRUPTED, progress_bar

if TYPE_CHECKING:
    from moesim.sweep.advise import Advice


@app.command(
    epilog=examples(
        "moesim advise experiments/quickstart.yaml",
        "moesim advise experiments/quickstart.yaml --set software=llama.cpp --requests 4 -j 2",
    )
)
def advise(
    file: ExperimentFile,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="A new folder, or one to go on in [results/NAME-advice].",
        ),
    ] = None,
    capacity: Annotated[
        str,
        typer.Option(metavar="ROOM", help="The most room for experts, as in '4 GiB'."),
    ] = "auto",
    requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Replay the first N requests [the file's, else about a minute].",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, metavar="N", help="Runs at the same time [one a core]."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Compare what can be done about experts that do not fit, say what limits the best, and which
    upgrade would help most.

    The file's own choices of capacity, policy, miss and kernels are not read, nor is its sweep.
    """
    from moesim.experiment.origins import placed
    from moesim.experiment.resolve import load_experiment
    from moesim.report.advice_figure import draw
    from moesim.results.files import check_new_folder, write_json
    from moesim.sweep.advise import Runs, begin_anew
    from moesim.sweep.advise import advise as advised

    _check_capacity(capacity)
    resolved = load_experiment(file, overrides or (), alone=True)
    experiment = resolved.experiment
    folder = out or Path("results") / f"{experiment.name}-advice"
    if overwrite:
        begin_anew(folder)
    elif not (folder / "choices").is_dir():
        check_new_folder(folder)
    try:
        with placed(resolved.origins, file), progress_bar("runs") as progress:
            runs = Runs(folder, jobs or os.cpu_count() or 1, progress)
            advice = advised(experiment, runs, most=capacity, requests=requests)
    except KeyboardInterrupt:
        fail(f"stopped; the finished runs stay in {folder}: the same command goes on", INTERRUPTED)
    write_json(folder / "advice.json", advice.to_dict())
    figure = draw(advice, folder / "advice.png")
    if as_json:
        typer.echo((folder / "advice.json").read_text(encoding="utf-8"), nl=False)
        return
    _print(advice, figure)
    again = [f"{path}={value}" for path, value in advice.again.items()]
    options = " ".join(f"--set '{text}'" for text in (*(overrides or ()), *again))
    typer.echo(f"again:  moesim run {file} {options}")


def _check_capacity(text: str) -> None:
    """Raise an InputError unless ``text`` is room for experts."""
    from moesim.config.capacity import parse_capacity
    from moesim.config.errors import InputError, Problem
    from moesim.config.quantity import QuantityError

    try:
        parse_capacity(text)
    except QuantityError as error:
        raise InputError([Problem("--capacity", "", str(error))]) from None


def _print(advice: Advice, figure: Path) -> None:
    from rich.console import Console

    from moesim.report.advice import rendered

    console = Console()
    for part in rendered(advice):
        console.print(part)
    typer.echo(f"figure: {figure}\nruns:   {figure.parent}/choices, {figure.parent}/upgrades")
