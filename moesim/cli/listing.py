"""``moesim list``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from moesim.cli.app import app, examples, terminal


@app.command("list", epilog=examples("moesim list gpus", "moesim list policies --json"))
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="policies, misses, variant_choices, prefetchers, gatings, planners, batchings, "
            "arrivals, lengths, schedulers, splits, routers, models, hardware, gpus, hosts, links, "
            "storage, near_memory, software, traces, "
            "importers, transforms, measurement_importers, costs, fitters, collectors, "
            "model_families, engine_commands or figures.",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List what an experiment can name, each with a line about it or its key figures."""
    import json

    from moesim.report.catalogue import listing

    rows = listing(what)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from moesim.report.catalogue import catalogue_table

    terminal().print(catalogue_table(what, rows))
