"""``moesim explain``: the terms of one price."""

from __future__ import annotations

from typing import Annotated

import typer

from moesim.cli.app import AsJson, Method, Software, app, examples, print_json, terminal

Count = int | None


@app.command(
    epilog=examples(
        "moesim explain rtx-4090 --tokens 1 --hidden 2880 --inter 2880 --experts 32 --top-k 4",
        "moesim explain experiments/quickstart.yaml --tokens 16",
    )
)
def explain(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="A profile: name or file; or an experiment.")
    ],
    *,
    op: Annotated[
        str | None,
        typer.Option(
            help="The operation: moe, gemm, copy_h2d, ..., or one of a run [moe; of an experiment:"
            " experts]."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Format of the weights.")] = "bf16",
    tokens: Annotated[Count, typer.Option(help="Tokens of the batch.")] = None,
    hidden: Annotated[Count, typer.Option(help="Hidden size.")] = None,
    inter: Annotated[Count, typer.Option(help="Intermediate size of an expert.")] = None,
    experts: Annotated[Count, typer.Option(help="Experts of the layer.")] = None,
    top_k: Annotated[Count, typer.Option(help="Experts a token.")] = None,
    distinct_experts: Annotated[
        Count, typer.Option(help="Experts that have rows [all that the tokens can reach].")
    ] = None,
    gated: Annotated[bool, typer.Option(help="Three matrices an expert, or two.")] = True,
    rows: Annotated[str | None, typer.Option(help="Rows of each expert, as in '4,2,1,1'.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="COLUMN=VALUE",
            help="Any other column, as in 'bytes=1000000'; repeatable.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model of an operation of a run, as attention."),
    ] = None,
    method: Method = "auto",
    software: Software = None,
    as_json: AsJson = False,
) -> None:
    """Show the terms of one price, and what it rests on."""
    from moesim.calibrate.prices.asked import COLUMNS
    from moesim.calibrate.prices.asking import asking_of, is_experiment
    from moesim.calibrate.prices.explain import explained
    from moesim.calibrate.tables.importing import setting

    op = op or ("experts" if is_experiment(profile) else "moe")
    values: dict[str, object] = {
        "op": op,
        "dtype": dtype,
        "tokens": tokens,
        "hidden": hidden,
        "inter": inter,
        "experts": experts,
        "top_k": top_k,
        "distinct_experts": distinct_experts,
        "gated": gated if op == "moe" else None,
        "rows": rows,
    }
    values |= dict(setting(text, COLUMNS) for text in settings or ())
    asking, _ = asking_of(profile, method, software=software, model=model)
    table = explained(asking.costs.hardware, values, method, asking)
    if not as_json:
        terminal().print(table)
        return
    names = [str(column.header or "term") for column in table.columns]
    cells = zip(*(column.cells for column in table.columns), strict=True)
    parts = [dict(zip(names, map(str, row), strict=True)) for row in cells]
    print_json({"price": str(table.title), "parts": parts, "notes": str(table.caption or "")})
