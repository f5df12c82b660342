"""``moesim calibrate collect``: measure this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json
from moesim.cli.calibrate.app import app

if TYPE_CHECKING:
    from moesim.calibrate.collect.measure import Series
    from moesim.calibrate.collect.session import Session


@app.command(
    epilog=examples(
        "moesim calibrate collect --model qwen3-30b-a3b --minutes 10 --out table.parquet"
    )
)
def collect(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The table to write (.parquet).")
    ],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="CARD|FILE", help="Measure this model's shapes; repeatable."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to measure.")] = 5.0,
    only: Annotated[
        list[str] | None, typer.Option(metavar="OP,OP", help="Measure only these ops.")
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="fp32, bf16, fp16; default bf16, on a CPU fp32; repeatable."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of device cpu.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Add to the table that is there what it lacks.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: experts, products, attention, copies; a profile's raw material."""
    from time import monotonic

    start = monotonic()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from moesim.calibrate.collect.command import finish, prepare
    from moesim.config.counted import counted

    session = prepare(out, models or (), device, only or (), dtype or (), threads, resume, start)
    told = f"{session.device.name}: {counted(len(session.points), 'point')}, {minutes:g} min"
    typer.echo(told, err=as_json)
    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeRemainingColumn())
    interrupted = False
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("measuring", total=minutes * 60)

        def progress(session: Session, series: Series) -> None:
            op = str(series.point.columns["op"])
            bar.update(task, completed=session.elapsed_s, description=op)

        try:
            session.measure(minutes, progress)
        except KeyboardInterrupt:
            interrupted = True
    lines = list(finish(session))
    if as_json:
        print_json({"file": str(out), "told": lines})
    else:
        typer.echo("\n".join(lines))
    if interrupted:
        typer.echo("interrupted: what was measured is kept; go on with --resume", err=True)
        raise typer.Exit(130)
