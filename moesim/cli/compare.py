"""``moesim compare``: two results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import app, examples, terminal


@app.command(epilog=examples("moesim compare results/one results/twelve"))
def compare(
    first: Annotated[Path, typer.Argument(metavar="DIR1", help="The folder of a run or a sweep.")],
    second: Annotated[Path, typer.Argument(metavar="DIR2", help="Another one.")],
) -> None:
    """Show what differs between two results: configuration, numbers, where the time goes."""
    from moesim.api import compare as compared
    from moesim.report.compare_tables import rendered

    parts = rendered(compared(first, second))
    typer.echo(f"first: {first}\nsecond: {second}")
    console = terminal()
    for part in parts:
        console.print()
        console.print(part)
