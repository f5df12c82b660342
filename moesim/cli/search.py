"""``moesim search``: the largest load under a service level."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moesim.cli.app import (
    AsJson,
    ExperimentFile,
    Overrides,
    Report,
    app,
    examples,
    fail,
    print_json,
    show_page,
    terminal,
    warn,
)
from moesim.cli.progress import INTERRUPTED

if TYPE_CHECKING:
    from moesim.sweep.probes import Found


@app.command(
    epilog=examples(
        "moesim search experiments/serving.yaml --vary workload.arrivals.max_concurrency "
        "--sla 'p99_tpot_ms<=0.9'"
    )
)
def search(
    file: ExperimentFile,
    *,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="PATH", help="A number of the experiment, as 'workload.arrivals.request_rate'."
        ),
    ],
    sla: Annotated[
        list[str],
        typer.Option(
            metavar="LIMIT",
            help="METRIC<=NUMBER or METRIC>=NUMBER of summary.json, as in 'p99_ttft_ms<=500'; "
            "repeatable.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="A new folder, or that of an earlier search [results/NAME-search].",
        ),
    ] = None,
    report: Report = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """The largest value of one number under which a run keeps its limits, and which limit binds:
    the largest request rate, or concurrency, under a service level.

    It starts from the experiment's own value, doubles or halves it until one run keeps all limits
    and one does not, and goes on between them to 2 %, small whole numbers to the next one. All runs
    draw the same arrivals, lengths and routing. It takes a limit to be broken from some value on
    (or, as a throughput's, up to some value, and from a larger one on), and a value that cannot run
    to break all. Of what is no load, as of serving.replicas, and of which more helps, the least
    that keeps them is the answer, how many it takes, and no more is tried than that
    takes to find.
    """
    from moesim.api import search as search_of
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.loading.warnings import of_inputs
    from moesim.report.sweep.search import at_best, content, files, sentence, table
    from moesim.report.sweep.search_range import trust_of

    if len(vary) > 1:
        what = f"{len(vary)} paths are given, and one number is searched; leave out all but one"
        fail(f"--vary: {what}, and sweep the others ('moesim sweep')")
    try:
        found, folder = search_of(
            file,
            vary[0],
            sla,
            out=out,
            overrides=overrides or (),
            told=_say,
        )
    except KeyboardInterrupt:
        fail("stopped; points.csv in its folder has the runs that ended", INTERRUPTED)
    value = [f"{vary[0]}={found.best.text}"] if found.best else []
    warn(of_inputs([load_experiment(file, [*(overrides or ()), *value], alone=True).experiment]))
    if as_json:
        print_json(content(found))
        show_page(folder, report=report, stderr=True)
        return
    terminal().print(table(found))
    typer.echo(sentence(found))
    for line in (*at_best(found), *trust_of(found)):
        typer.echo(line)
    for path in files(folder):
        typer.echo(path)
    show_page(folder, report=report)


def _say(now: Found) -> None:
    from moesim.report.sweep.search import so_far

    assert now.last is not None, "a run has ended"
    typer.echo(f"{now.last.text} tried: {so_far(now)}", err=True)
