"""``moesim reproduce``: published studies and systems, rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from moesim.cli.app import AsJson, Cache, Report, app, examples, print_json, show_page, terminal
from moesim.cli.progress import leave_at_ctrl_c, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moesim.reproduce.systems.run import Found


class Options(NamedTuple):
    """How systems are run."""

    overrides: Sequence[str]
    quick: bool
    jobs: int
    cache: str | None
    report: bool
    as_json: bool


@app.command(
    epilog=examples(
        "moesim reproduce pruning --out results/pruning",
        "moesim reproduce reference-study --out results/study -j 2",
    )
)
def reproduce(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A published system (--list names them), the file of a system's record, "
            "'systems' for all of them, or 'reference-study'.",
        ),
    ] = "",
    show: Annotated[bool, typer.Option("--list", help="Show what there is, and leave.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="A new folder.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set one assumption of the study, as in 'launch_us=35' (its report.md lists them),"
            " or one value of every run of a system, as in 'software=ideal'; repeatable.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of systems: short runs, for a first look.")
    ] = False,
    cache: Cache = None,
    report: Report = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Processes at the same time.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Rebuild a published study or system by mechanism, beside what it published.

    A system is a record: runs of an experiment, laws that hold between them, published numbers
    with how they are judged, and a question that its paper does not ask. Writes points.csv,
    laws.csv, published.csv, figures and report.md. 'reference-study' is 'Towards MoE Deployment'
    (arXiv 2303.06182): gatings, expert buffering and load balancing of a language and a translation
    model on 1, 2 and 4 nodes of 8 V100.

    Nothing is fitted to a published result: what a paper does not state is an assumption.
    """
    from moesim.config.errors import InputError, Problem
    from moesim.report.systems.tables import systems_table
    from moesim.reproduce.systems.load import ALL, STUDY, load_system, system_names

    if (show or not name) and as_json:
        print_json([*system_names(), STUDY])
        return
    if show or not name:
        terminal().print(systems_table({one: load_system(one) for one in system_names()}))
        typer.echo("and 'reference-study' (arXiv 2303.06182), docs/reference-study.md")
        return
    if name not in (STUDY, ALL):
        load_system(name)  # which says what it is not, before anything else is asked for
    if out is None:
        raise InputError([Problem("--out", "", f"is missing; give --out results/{name}")])
    options = Options(overrides or (), quick, jobs, cache, report, as_json)
    if name == STUDY:
        _reference_study(out, options)
    elif name == ALL:
        names = [one for one in system_names() if load_system(one).runs]
        _systems(names, out, options)
    else:
        _system(name, out, options)


def _reference_study(out: Path, options: Options) -> None:
    from moesim.config.errors import writing
    from moesim.report.reference_study import study_table, write_study
    from moesim.reproduce.cases import Pools
    from moesim.reproduce.parameters import assumptions
    from moesim.reproduce.run import Plan, run_study
    from moesim.results import check_new_folder

    values = assumptions(options.overrides)
    check_new_folder(out)
    stopped = f"stopped; a study starts anew: remove {out}, or name another folder"
    with writing(out), leave_at_ctrl_c(stopped), progress_bar() as progress:
        found = run_study(Plan(values, Pools(out / "traces")), options.jobs, progress)
    with writing(out):
        table = write_study(found, out)
    show_page(out, report=options.report, stderr=options.as_json)
    if options.as_json:
        print_json({"folder": str(out), "table": table.to_dict("records")})
        return
    terminal().print(study_table(table))
    typer.echo(f"table:   {out}/table.csv\nreport:  {out}/report.md\nfigures: {out}/figures")


def _system(name: str, out: Path, options: Options) -> Found:
    """Run the system ``name`` into ``out``, and print what came of it."""
    from moesim.config.errors import writing
    from moesim.experiment.running.cache import cache_folder
    from moesim.report.systems import given_table, laws_table, write_system
    from moesim.report.systems.tables import terminal_table
    from moesim.reproduce.systems import run_system
    from moesim.results import check_new_folder

    check_new_folder(out)
    how: dict[str, Any] = {
        "overrides": options.overrides,
        "reduced": options.quick,
        "jobs": options.jobs,
    }
    kept = cache_folder(options.cache)
    stopped = f"stopped; it starts anew: remove {out}, or name another folder"
    with leave_at_ctrl_c(stopped), progress_bar() as progress:
        found = run_system(name, **how, cache=kept, progress=progress)
    with writing(out):
        write_system(found, out)
    held, beside = laws_table(found), given_table(found)
    show_page(out, report=options.report, stderr=options.as_json)
    if options.as_json:
        tables = {"laws": held.to_dict("records"), "published": beside.to_dict("records")}
        print_json({"system": name, "folder": str(out), **tables, "verdict": found.verdict})
        return found
    terminal().print(terminal_table(held, f"{found.system.title}: laws", held.columns))
    if len(beside):
        shown = [column for column in beside.columns if column not in ("by", "note")]
        terminal().print(terminal_table(beside, "published and simulated", shown))
    typer.echo(f"{found.verdict}\nreport:  {out}/report.md")
    return found


def _systems(names: Sequence[str], out: Path, options: Options) -> None:
    """Run all of ``names``, each into its folder in ``out``, and write the table over all."""
    from moesim.config.files.files import write_whole
    from moesim.report.systems import overview
    from moesim.reproduce.systems import load_system, system_names
    from moesim.results import check_new_folder

    check_new_folder(out)
    results = {name: _system(name, out / name, options) for name in names}
    systems = {name: load_system(name) for name in system_names()}
    write_whole(out / "systems.md", overview(systems, results) + "\n")
    typer.echo(f"table:   {out}/systems.md", err=options.as_json)
