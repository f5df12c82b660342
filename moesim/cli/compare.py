"""``moesim compare``: two results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import app, examples, print_json, terminal


@app.command(
    epilog=examples(
        "moesim compare results/one results/twelve",
        "moesim compare results/one results/twelve -o why.html",
    )
)
def compare(
    first: Annotated[Path, typer.Argument(metavar="DIR1", help="The folder of a run or a sweep.")],
    second: Annotated[Path, typer.Argument(metavar="DIR2", help="Another one.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it as one page, too, .html."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what differs between two results: configuration, numbers, where the time goes. The page
    says what changed and why: hits, waits, bytes.
    """
    from moesim.api import compare as compared
    from moesim.report.comparison.tables import rendered

    tables = compared(first, second, out=out)
    if as_json:
        print_json({name: table.to_dict("records") for name, table in tables.items()})
        return
    parts = rendered(tables)
    typer.echo(f"first: {first}\nsecond: {second}")
    console = terminal()
    for part in parts:
        console.print()
        console.print(part)
    if out is not None:
        typer.echo(f"page:   {out}")
