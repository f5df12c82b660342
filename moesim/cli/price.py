"""``moesim price``: what every row of a table costs on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, Method, Software, app, examples, print_json


@app.command(epilog=examples("moesim price h100-sxm --ops operations.parquet --out prices.parquet"))
def price(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile: name or file.")],
    *,
    ops: Annotated[
        Path, typer.Option("--ops", metavar="TABLE", help="Operations, as a measurement table.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The prices: .parquet or .csv.")
    ],
    method: Method = "auto",
    software: Software = None,
    as_json: AsJson = False,
) -> None:
    """Price every row of a table: the same rows, with price_ns, price_source and outside."""
    from moesim.api import price as priced
    from moesim.config.counted import counted

    table = priced(profile, ops, out=out, method=method, software=software)
    counts = {source: int((table["price_source"] == source).sum()) for source in SOURCES}
    if as_json:
        outside = int(table["outside"].sum())
        print_json({"file": str(out), "rows": len(table), **counts, "outside": outside})
        return
    shares = ", ".join(f"{number} {source}" for source, number in counts.items() if number)
    told = f"{shares or 'none'}; {int(table['outside'].sum())} outside"
    typer.echo(f"{out}: {counted(len(table), 'row')} ({told})")


SOURCES = ("measured", "interpolated", "fitted", "datasheet")
