"""``moesim trace label``: say what the requests of a trace are about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json
from moesim.cli.trace.app import Out, TraceFile, app, described, sizes


@app.command(epilog=examples("moesim trace label mine.parquet domains.txt --out labelled.parquet"))
def label(
    file: TraceFile,
    names: Annotated[
        Path, typer.Argument(metavar="NAMES", help="A text file, a line a request: its domain.")
    ],
    *,
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Write a trace that says of each request what it is about, as 'code' or 'prose'.

    Served requests can then be bound to those of one domain (workload.routing.domain).
    """
    from moesim.config.errors import check_apart, located
    from moesim.trace import read_trace, write_trace
    from moesim.trace.labelling import read_names, with_domains

    check_apart(out, file)
    listed, trace = read_names(names), read_trace(file)
    with located(names):
        trace = with_domains(trace, listed)
    write_trace(trace, out)
    counts = {one.name: listed.count(one.name) for one in trace.metadata.domains}
    if as_json:
        print_json({"file": str(out), **sizes(trace), "domains": counts})
        return
    told = ", ".join(f"{number} {name}" for name, number in counts.items())
    typer.echo(f"{out}: {described(trace)}; requests: {told}")
