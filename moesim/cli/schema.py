"""``moesim schema``: the JSON Schema of experiments."""

from __future__ import annotations

import typer

from moesim.cli.app import app, examples


@app.command(epilog=examples("moesim schema > experiment.schema.json"))
def schema() -> None:
    """Print the JSON Schema of experiments, for editors."""
    import json

    from moesim.experiment.schema.json_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
