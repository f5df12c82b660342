"""``moesim price``: what every row of a table costs on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import app


@app.command()
def price(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile: name or file.")],
    *,
    ops: Annotated[
        Path, typer.Option("--ops", metavar="TABLE", help="Operations, as a measurement table.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The prices: .parquet or .csv.")
    ],
    method: Annotated[
        str, typer.Option(help="auto, table, fit or datasheet.", show_default=True)
    ] = "auto",
) -> None:
    """Price every row of a table: the same rows, with price_ns, price_source and outside."""
    from moesim.calibrate.price import price_table
    from moesim.calibrate.table import read_table, write_all
    from moesim.config.counted import counted
    from moesim.config.errors import check_apart
    from moesim.hardware import hardware_file, load_hardware

    hardware = load_hardware(profile)
    check_apart(out, ops, hardware_file(profile))
    table = read_table(ops)
    prices = price_table(hardware, table, method, str(ops))
    write_all(table.assign(**prices._asdict()), out)
    counts = {source: int((prices.price_source == source).sum()) for source in SOURCES}
    shares = ", ".join(f"{number} {source}" for source, number in counts.items() if number)
    told = f"{shares or 'none'}; {int(prices.outside.sum())} outside"
    typer.echo(f"{out}: {counted(len(table), 'row')} ({told})")


SOURCES = ("measured", "interpolated", "fitted", "datasheet")
