"""``moesim plot``: the figures of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import app


@app.command()
def plot(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run or a sweep.")],
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure", "-f", metavar="NAME",
            help="Draw this figure ('moesim list figures'); repeatable. Default: those that the "
            "experiment names and that apply, else all that apply.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="[DIR/figures]")
    ] = None,
) -> None:  # fmt: skip
    """Draw a result's figures as PNG and SVG, each with its table (CSV) beside it."""
    from moesim.report.plot import plot as draw

    for path in draw(folder, figure or (), out):
        typer.echo(path)
