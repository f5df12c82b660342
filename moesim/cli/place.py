"""``moesim place``: which GPU should hold which expert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import ExperimentFile, Overrides, app, examples, terminal
from moesim.cli.progress import progress_bar


@app.command(
    epilog=examples(
        "moesim place experiments/placement_on_8_gpus.yaml --compare",
        "moesim place experiments/placement_on_8_gpus.yaml --out plan.json",
    )
)
def place(
    file: ExperimentFile,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PLAN", help="Write the plan (JSON, EPLB's maps)."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show all planners beside the experiment's own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Plan which GPU holds which expert from the first part of an experiment's trace, and judge
    the plan on the rest. 'placement: {kind: plan, file: PLAN}' runs it.
    """
    from moesim.api import place as planned

    with progress_bar("planners") as progress:
        judgement = planned(
            file, out=out, compare=compare, overrides=overrides or (), progress=progress
        )
    if as_json:
        import json

        typer.echo(json.dumps([judged.numbers() for judged in judgement.plans], indent=2))
        return
    from moesim.report.run.placement import placement_table

    terminal().print(placement_table(judgement))
    if out is not None:
        typer.echo(f"plan: {out}")
