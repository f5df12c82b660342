"""``moesim price``: what every row of a table costs on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, Method, Overrides, Software, app, examples, print_json

OPS = (
    "all_reduce, all_to_all, attention, combine_product, copy, cpu_expert, cpu_layer, "
    "cross_attention, decide, dense, drafting, encode, experts, gate, gather_logits, head, "
    "joining, layer_copy, masks, near_expert, permute, prediction, read_logits, sampling, "
    "send_recv, shared, step_inputs, storage_read, unpacking"
)


@app.command(
    epilog=examples(
        "moesim price h100-sxm --ops shapes.csv --out prices.csv",
        "moesim price h100-sxm --model qwen3-30b-a3b --ops operations.csv --out prices.csv",
    )
)
def price(
    profile: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE",
            help="A profile: name or file; or an experiment, as whose run prices operations.",
        ),
    ],
    *,
    ops: Annotated[
        Path,
        typer.Option("--ops", metavar="TABLE", help="Operations: .parquet or .csv, an op a row."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The prices: .parquet or .csv.")
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"The model of rows whose op is one of a run: {OPS}."),
    ] = None,
    overrides: Overrides = None,
    method: Method = "auto",
    software: Software = None,
    as_json: AsJson = False,
) -> None:
    """Price every row of a table: the same rows, with price_ns, price_source, outside, and the
    range from low_ns to high_ns.

    Ops are those of a measurement table (moe, gemm, copy_h2d, ...), and operations of a run as
    operations.parquet names them, which docs/calibration.md lists with their columns.
    """
    from moesim.api import price as priced
    from moesim.config.counted import counted

    table = priced(
        profile,
        ops,
        out=out,
        method=method,
        software=software,
        model=model,
        overrides=overrides or (),
    )
    counts = {source: int((table["price_source"] == source).sum()) for source in SOURCES}
    if as_json:
        outside = int(table["outside"].sum())
        print_json({"file": str(out), "rows": len(table), **counts, "outside": outside})
        return
    shares = ", ".join(f"{number} {source}" for source, number in counts.items() if number)
    told = f"{shares or 'none'}; {int(table['outside'].sum())} outside"
    typer.echo(f"{out}: {counted(len(table), 'row')} ({told})")


SOURCES = ("measured", "interpolated", "fitted", "datasheet")
