"""``moesim host-curve``: how much host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import (
    AsJson,
    ExperimentFile,
    Overrides,
    app,
    examples,
    names_in,
    print_json,
    terminal,
)


@app.command(
    name="host-curve",
    epilog=examples("moesim host-curve experiments/ssd.yaml --policy lru,lfu,min --out curve.png"),
)
def host_curve(
    file: ExperimentFile,
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="Of lru, lfu, fifo, lifo, static, min; repeatable. [default: lru,min]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FIGURE", help="Draw the curves (.png or .svg)."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say what host memory of every size hits of the experts that the GPUs miss, where its cliff
    is, and what the drive below is left with; no clock runs.

    Where CPU and GPU share one memory, it is the room for experts there. Where the experts of
    layers differ in bytes, room is counted in the largest; a run goes by bytes.
    """
    from moesim.api import host_curve as curve_of
    from moesim.report.curves.host import check_path, draw, rendered

    if out is not None:
        check_path(out)
    names = names_in(policy or ["lru,min"])
    curve = curve_of(file, policy=names, overrides=overrides or ())
    picture = None if out is None else draw(curve, out)
    if as_json:
        print_json({"curve": curve.to_dict("records"), "figure": picture and str(picture)})
        return
    for part in rendered(curve, str(file)):
        terminal().print(part)
    if picture is not None:
        typer.echo(str(picture))
