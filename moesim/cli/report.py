"""``moesim report``: a result as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, app, examples, print_json


@app.command(
    epilog=examples(
        "moesim report results/quickstart", "moesim report results/quickstart -o quickstart.html"
    )
)
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder that a command wrote its result into.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page, .html [DIR/report.html]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the result of a run, a sweep, an advice, a search, a sensitivity, the evidence or a
    reproduced study as one page: an HTML file that opens without network or server, from a mail.

    It has the answer first; then the engine's command, all points with filters, figures, where the
    time goes, memory, how far to trust it, and the experiment.
    """
    from moesim.api import write_report
    from moesim.cli.progress import progress_bar

    with progress_bar("replays with one thing changed") as progress:
        page = write_report(folder, out, progress=progress)
    if as_json:
        print_json({"file": str(page)})
    else:
        typer.echo(page)
