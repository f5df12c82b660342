"""``moesim trace curve``: the misses of every number of slots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from moesim.cli.app import AsJson, examples, names_in, print_json, terminal, warn
from moesim.cli.trace.app import Looked, app

POLICIES = "lru,lfu,fifo,lifo,static,min"


@app.command(
    epilog=examples(
        "moesim trace curve traces/quickstart.parquet --policy lru,min --out curve.parquet",
        "moesim trace curve deepseek-v3 --policy lru --out curve.parquet",
    )
)
def curve(
    trace: Looked,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The table to write (.parquet).")
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="Cache policies ('moesim list policies'), with defaults; repeatable. "
            f"[default: {POLICIES}]",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=1 << 20, help="Requests in a batch (static batching).")
    ] = 1,
    phase: Annotated[
        Literal["decode", "prefill", "all", "encode"], typer.Option(help="The tokens that run.")
    ] = "decode",
    rule: Annotated[
        Literal["step", "textbook"],
        typer.Option(
            help="step: as in a run, where the experts of a step are not evicted before their "
            "activation; textbook: every activation on its own, as cache libraries count."
        ),
    ] = "step",
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The figure, .png or .svg. [OUT with .png]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Miss ratio at every number of expert slots, by policy and MoE layer, and what limits it."""
    from moesim.api import curve as curves_of
    from moesim.config.errors import check_apart, located
    from moesim.config.files.files import replacing
    from moesim.experiment.loading.looked_at import look_at
    from moesim.report.curves.figure import draw
    from moesim.report.curves.table import rendered
    from moesim.results.folder import write_table

    picture = figure or out.with_suffix(".png")
    check_apart(out, Path(trace))
    _check("--out", out, ".parquet")
    _check("--figure", picture, ".png", ".svg")
    names = names_in(policy or [POLICIES])
    found = look_at(trace)
    warn(found.told)
    with located(Path(trace)):
        curves = curves_of(found.trace, policy=names, batch=batch, phase=phase, rule=rule)
    title = f"{Path(trace).name}: {phase}, batch {batch}, {rule} rule"
    with replacing(out) as temporary:
        write_table(curves, temporary)
    draw(curves, picture, title, "--figure" if figure else "--out")
    if as_json:
        told = {"table": str(out), "figure": str(picture), "curve": curves.to_dict("records")}
        print_json(told)
        return
    for part in rendered(curves, title):
        terminal().print(part)
    typer.echo(f"table:  {out}\nfigure: {picture}")


def _check(option: str, path: Path, *suffixes: str) -> None:
    """Raise an InputError unless ``path`` can be a file with one of ``suffixes``."""
    from moesim.config.errors import InputError, Problem

    if path.suffix not in suffixes or path.is_dir():
        what = f"'{path}' must be a file that ends in {' or '.join(suffixes)}"
        raise InputError([Problem(option, "", what)])
