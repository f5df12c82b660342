"""``moesim sensitivity``: which input moves the answer most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import (
    AsJson,
    ExperimentFile,
    Overrides,
    Report,
    RunsAtOnce,
    app,
    examples,
    fail,
    print_json,
    show_page,
    terminal,
)
from moesim.cli.progress import INTERRUPTED, progress_bar


@app.command(
    epilog=examples(
        "moesim sensitivity experiments/quickstart.yaml",
        "moesim sensitivity results/my-advice/experiment.yaml --by 10%",
    )
)
def sensitivity(
    file: ExperimentFile,
    *,
    by: Annotated[
        str, typer.Option(metavar="SHARE", help="How much more, or less, of each input.")
    ] = "25 %",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="A new folder, or one to go on in [results/NAME-sensitivity].",
        ),
    ] = None,
    jobs: RunsAtOnce = None,
    report: Report = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Which inputs move the speed of an experiment most, and what to measure first.

    Each number of the machine, the software and the workload is made larger and smaller by the same
    share; what nobody measured is set to the ends of its range.
    """
    from moesim.api import sensitivity as sensitivity_of
    from moesim.report.sweep.sensitivity import files, frame, table
    from moesim.sweep.sensitivity import in_words

    try:
        with progress_bar("runs") as progress:
            found = sensitivity_of(
                file,
                by=by,
                out=out,
                jobs=jobs,
                overrides=overrides or (),
                progress=progress,
            )
    except KeyboardInterrupt:
        fail("stopped; the finished runs are kept: the same command goes on", INTERRUPTED)
    if as_json:
        rows = frame(found).to_dict("records")
        print_json({"as_is_tokens_per_s": found.as_is, "told": in_words(found), "runs": rows})
        show_page(found.folder, report=report, stderr=True)
        return
    terminal().print(table(found))
    for line in in_words(found):
        typer.echo(line)
    for path in files(found):
        typer.echo(path)
    show_page(found.folder, report=report)
