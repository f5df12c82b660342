"""``moesim trace distance``: how far one routing trace is from another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import examples, terminal
from moesim.cli.trace.app import app


@app.command(epilog=examples("moesim trace distance traces/quickstart.parquet four.parquet"))
def distance(
    first: Annotated[Path, typer.Argument(metavar="A", help="A trace, for example a real one.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="A trace to compare with it.")],
    *,
    phase: Annotated[
        str | None,
        typer.Option(help="decode, prefill, encode or all [decode if A has it, else all]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare two traces of a model, beside two halves of the first."""
    import json

    from moesim.trace import read_trace
    from moesim.trace.distance import compare

    result = compare(read_trace(first), read_trace(second), phase)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    from moesim.trace.distance.table import table

    terminal().print(table(result))
