"""``moesim fit``: what fits in memory."""

from __future__ import annotations

from typing import Annotated

import typer

from moesim.cli.app import ExperimentFile, Overrides, app


@app.command()
def fit(
    file: ExperimentFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Say whether an experiment fits in memory, and the largest batch and capacity that do."""
    import json

    from moesim.experiment.fit import largest_fit
    from moesim.experiment.resolve import load_experiment

    answer = largest_fit(load_experiment(file, overrides or ()).experiment)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    gib = 2**30
    typer.echo("fits" if answer["fits"] else f"does not fit: {answer['reason']}")
    peak, limit = answer["peak_memory_bytes"] / gib, answer["limit_bytes"] / gib
    typer.echo(f"peak memory of a GPU:     {peak:.2f} of {limit:.2f} GiB")
    batch, context = answer["largest_batch"], answer["longest_context_tokens"]
    typer.echo(f"largest batch:            {_or_none(batch)} requests of {context} tokens")
    slots, local = answer["largest_slots"], answer["local_experts"]
    room = f" ({answer['capacity_bytes'] / gib:.2f} GiB)" if slots else ""
    typer.echo(f"largest expert capacity:  {_or_none(slots)} of {local} slots/layer{room}")


def _or_none(number: int | None) -> str:
    return "not even 1" if number is None else str(number)
