"""``moesim reproduce``: published studies, rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import app, examples, terminal
from moesim.cli.progress import leave_at_ctrl_c, progress_bar

studies = typer.Typer(
    no_args_is_help=True, help="Rebuild a published study by mechanism, beside what it published."
)
app.add_typer(studies, name="reproduce")


@studies.command(
    "reference-study", epilog=examples("moesim reproduce reference-study --out results/study -j 2")
)
def reference_study(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set one assumption, as in 'launch_us=35'; repeatable. report.md lists them.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Processes at the same time.")
    ] = 1,
) -> None:
    """'Towards MoE Deployment' (arXiv 2303.06182): gatings, expert buffering and load balancing of
    a language and a translation model on 1, 2 and 4 nodes of 8 V100.

    Writes table.csv, sensitivity.csv, figures and report.md. Nothing is fitted to a result of the
    study: what it does not state is an assumption with a range, varied one at a time.
    """
    from moesim.config.errors import writing
    from moesim.report.reference_study import study_table, write_study
    from moesim.reproduce.cases import Pools
    from moesim.reproduce.parameters import assumptions
    from moesim.reproduce.run import Plan, run_study
    from moesim.results import check_new_folder

    values = assumptions(overrides or ())
    check_new_folder(out)
    stopped = f"stopped; a study starts anew: remove {out}, or name another folder"
    with writing(out), leave_at_ctrl_c(stopped), progress_bar() as progress:
        found = run_study(Plan(values, Pools(out / "traces")), jobs, progress)
    with writing(out):
        table = write_study(found, out)
    terminal().print(study_table(table))
    typer.echo(f"table:   {out}/table.csv\nreport:  {out}/report.md\nfigures: {out}/figures")
