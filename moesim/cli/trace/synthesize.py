"""``moesim trace synthesize``: a routing trace from parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json
from moesim.cli.trace.app import Out, app, described, sizes


@app.command(
    epilog=examples("moesim trace synthesize parameters.yaml --requests 100 --out drawn.parquet")
)
def synthesize(
    file: Annotated[
        Path, typer.Argument(metavar="PARAMETERS", help="Parameters of a trace, as a YAML file.")
    ],
    *,
    out: Out,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests, instead of the file's number.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="As many requests as have so many tokens; the last one is cut."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Other requests with the same parameters (default: the file's)."),
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only requests of this domain.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a routing trace of any length from parameters, written by hand or fitted."""
    from moesim.api import synthesize as draw

    trace = draw(file, out=out, requests=requests, tokens=tokens, seed=seed, domain=domain)
    if as_json:
        print_json({"file": str(out), **sizes(trace)})
        return
    typer.echo(f"{out}: {described(trace)}")
    typer.echo(f"note: {trace.metadata.notes}")
