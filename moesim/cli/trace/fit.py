"""``moesim trace fit``: parameters of synthetic traces from a recorded one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json
from moesim.cli.trace.app import TraceFile, app


@app.command(
    "fit", epilog=examples("moesim trace fit traces/quickstart.parquet --out parameters.yaml")
)
def fit_(
    file: TraceFile,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PARAMETERS", help="The YAML file to write.")
    ],
    domains: Annotated[
        int,
        typer.Option(min=1, help="Domains of requests to look for, at most one for ten requests."),
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws that the fit needs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate parameters of a trace, from which 'trace synthesize' draws similar ones."""
    from moesim.config.counted import counted
    from moesim.config.errors import check_apart, located
    from moesim.trace import read_trace
    from moesim.trace.parquet import check_target
    from moesim.trace.synthesis.fitting import fit
    from moesim.trace.synthesis.fitting.fit import PART_STEPS, phases_of
    from moesim.trace.synthesis.fitting.write import write_parameters

    check_apart(out, file)
    check_target(out, ".yaml")
    trace = read_trace(file)
    with located(file), _progress_bar(PART_STEPS * len(list(phases_of(trace)))) as advance:
        parameters = fit(trace, file.name, domains, seed, advance)
    write_parameters(parameters, out)
    if as_json:
        domains_found = list(parameters.domains.names)
        print_json({"file": str(out), "title": parameters.title, "domains": domains_found})
        return
    typer.echo(f"{out}: {parameters.title}, {counted(len(parameters.domains.names), 'domain')}")


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar with the time left on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fit", total=total)
        yield lambda: bar.advance(task)
