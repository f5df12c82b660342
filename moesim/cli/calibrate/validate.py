"""``moesim calibrate validate``: a real decode against moesim's replay of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, fail, print_json, terminal
from moesim.cli.calibrate.app import app

INTERRUPTED = 130


@app.command(
    epilog=examples("moesim calibrate validate --device cpu --slots 25,50 --out results/loop")
)
def validate(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The folder for what is found.")
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="CARD|FILE", help="The model's sizes; else a small one for CPUs."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="The prices; else this machine is measured."),
    ] = None,
    slots: Annotated[
        str, typer.Option(help="Slots a layer, percent of its experts.")
    ] = "25,50,75,100",
    batch: Annotated[str, typer.Option(help="Requests of a batch.")] = "1,4",
    tokens: Annotated[int, typer.Option(help="Decode steps of a request.")] = 32,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Decode with expert slots for real, replay the routing, and compare times and misses."""
    from rich.console import Console

    from moesim.calibrate.collect.device import torch_library

    torch_library()
    from moesim.calibrate.closed_loop.loop import closed_loop
    from moesim.calibrate.closed_loop.request import Request, whole_numbers
    from moesim.report.judged.closed_loop import draw, tables, verdict

    request = Request(
        out=out,
        model=model,
        profile=profile,
        percents=whole_numbers(slots, "--slots"),
        batches=whole_numbers(batch, "--batch"),
        steps=tokens,
        device=device,
    )
    told = Console(stderr=True)
    try:
        with told.status("starting") as status:
            found = closed_loop(request, status.update)
    except KeyboardInterrupt:
        fail(f"stopped before the comparison; {out} has only what was measured", INTERRUPTED)
    for line in found.notes:
        typer.echo(line, err=True)
    picture = draw(found.compared, found.parts, out / "closed_loop.png")
    told_lines = list(verdict(found.compared, device))
    if as_json:
        rows = found.compared.to_dict("records")
        print_json({"rows": rows, "verdict": told_lines, "figure": str(picture)})
    else:
        for table in tables(found.compared, found.parts):
            terminal().print(table)
        typer.echo("\n".join([str(picture), *told_lines]))
    if not found.compared["decisions_equal"].all():
        fail("hits or misses differ: see comparison.csv", code=1)
