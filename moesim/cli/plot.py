"""``moesim plot``: the figures of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moesim.cli.app import AllowDrops, AsJson, app, examples, fail, print_json


@app.command(
    epilog=examples(
        "moesim plot results/quickstart", "moesim plot results/quickstart --figure time_breakdown"
    )
)
def plot(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run, a sweep or an advice.")
    ],
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure", "-f", metavar="NAME",
            help="Draw this figure ('moesim list figures'); repeatable. Default: those that the "
            "experiment names and that apply, else all that apply.",
        ),
    ] = None,
    *,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Draw this number (a column of points.csv) of a sweep."),
    ] = None,
    over: Annotated[
        str | None, typer.Option(metavar="AXIS", help="Over this axis of it, as in 'capacity'.")
    ] = None,
    relative_to: Annotated[
        str | None,
        typer.Option(metavar="AXIS=VALUE", help="Relative to these points, as in 'policy=lru'."),
    ] = None,
    gap_to: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS=VALUE",
            help="How much of the gap from those to these is closed, as in 'policy=min'.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to draw [DIR/figures].")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="NAME", help="png, svg or pdf; repeatable [png and svg]."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Size of each picture in inches, as in 3.3x2.5."),
    ] = None,
    allow_drops: AllowDrops = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Draw a result's figures, each with its table (CSV) beside it. The exit code is 2 where one
    that was named could not be drawn, or had no room.
    """
    from moesim.api import plot as draw

    chosen: list[Any] = list(figure or ())
    if own := _own(metric=metric, over=over, relative_to=relative_to, gap_to=gap_to):
        chosen.append(own)
    left_out: list[str] = []
    paths = draw(
        folder,
        chosen,
        out=out,
        formats=formats or ("png", "svg"),
        size=size,
        allow_drops=allow_drops,
        warn=left_out.append,
    )
    if as_json:
        print_json({"files": [str(path) for path in paths], "left_out": left_out})
    else:
        for path in paths:
            typer.echo(path)
    if left_out:
        fail("\n".join(left_out))


def _own(**options: str | None) -> dict[str, str] | None:
    """The figure of any metric over any axis that the options ask for, if they do."""
    from moesim.config.errors import InputError, Problem

    given = {name: value for name, value in options.items() if value is not None}
    missing = [name for name in ("metric", "over") if name not in given]
    if given and missing:
        what = "names one part of a figure; --metric NAME and --over AXIS belong together"
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise InputError([Problem(option, "", what)])
    if "gap_to" in given and "relative_to" not in given:
        what = "is the end of a gap; --relative-to AXIS=VALUE names where it begins"
        raise InputError([Problem("--gap-to", "", what)])
    return {"kind": "metric_over_axis", **given} if given else None
