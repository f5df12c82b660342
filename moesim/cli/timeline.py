"""``moesim timeline``: what every engine of every GPU did, for Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, app, examples, print_json


@app.command(epilog=examples("moesim timeline results/one --steps 0:5 --out timeline.json"))
def timeline(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")],
    steps: Annotated[
        str, typer.Option("--steps", metavar="FIRST:END", help="Forward passes to show.")
    ] = "0:20",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write (JSON).")
    ] = Path("timeline.json"),
    as_json: AsJson = False,
) -> None:
    """Write what engines, hosts and links did as a Chrome trace (opens in ui.perfetto.dev).

    A run without such records is simulated once more, as far as the last of the steps.
    """
    from moesim.api import timeline as write_timeline
    from moesim.config.counted import counted

    count = write_timeline(folder, out, steps=steps)
    if as_json:
        print_json({"file": str(out), "spans": count})
        return
    typer.echo(f"{out}: {counted(count, 'span')}; open it in https://ui.perfetto.dev")
