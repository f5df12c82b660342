"""``moesim advise``: load, compute or read in place, and what to buy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moesim.cli.app import ExperimentFile, Overrides, Overwrite, app, examples, fail, terminal
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
    from moesim.api import advise as advised

    try:
        with progress_bar("runs") as progress:
            advice = advised(
                file,
                out=out,
                capacity=capacity,
                requests=requests,
                jobs=jobs or os.cpu_count() or 1,
                overwrite=overwrite,
                overrides=overrides or (),
                progress=progress,
            )
    except KeyboardInterrupt:
        fail("stopped; the finished runs are kept: the same command goes on", INTERRUPTED)
    if as_json:
        typer.echo((advice.folder / "advice.json").read_text(encoding="utf-8"), nl=False)
        return
    _print(advice)
    again = [f"{path}={value}" for path, value in advice.again.items()]
    options = " ".join(f"--set '{text}'" for text in (*(overrides or ()), *again))
    typer.echo(f"again:  moesim run {file} {options}")


def _print(advice: Advice) -> None:
    from moesim.report.advice import rendered

    console = terminal()
    for part in rendered(advice):
        console.print(part)
    folder = advice.folder
    typer.echo(
        f"figure: {folder / 'advice.png'}\nruns:   {folder / 'choices'}, {folder / 'upgrades'}"
    )
