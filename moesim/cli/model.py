"""``moesim model``: what a model's file says."""

from __future__ import annotations

from typing import Annotated

import typer

from moesim.cli.app import app as command_line
from moesim.cli.app import examples, terminal

app = typer.Typer(no_args_is_help=True, help="Look at a model: a card, a config.json, a GGUF file.")
command_line.add_typer(app, name="model")


@app.command(
    epilog=examples(
        "moesim model show qwen3-30b-a3b", "moesim model show model-00001-of-00003.gguf --json"
    )
)
def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A card ('moesim list models') or its repository, a config.json (with a "
            "quantisation file beside it), a GGUF file (any part of a split one), or the folder "
            "that holds one of them.",
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show parameters and bytes of a model by part, layer and expert, what a token caches, and what
    of it is not understood. Of a GGUF file only the header is read.
    """
    import json

    from moesim.model import by_layer, load_model

    spec = load_model(model)
    if as_json:
        typer.echo(json.dumps(by_layer(spec), indent=2, ensure_ascii=False))
        return
    from moesim.report.run.model import model_report

    console = terminal()
    for piece in model_report(spec):
        console.print(piece, soft_wrap=isinstance(piece, str))
