"""``moesim evidence``: published runs, and one's own, beside what moesim makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, Report, examples, fail, print_json, show_page, terminal, warn
from moesim.cli.app import app as command_line
from moesim.cli.progress import INTERRUPTED, progress_bar

app = typer.Typer(
    invoke_without_command=True,
    help="Predict every run of a pack and show how far off each is; 'add' puts in your own.",
    epilog=examples(
        "moesim evidence --out results/evidence",
        "moesim evidence --pack throughputs --out results/throughputs",
        "moesim evidence --pack all --out results/evidence",
        "moesim evidence --pack all --run r01 --run mmap --out results/two",
        'moesim evidence add run.yaml --measured "17.8 tokens/s" --pack my-runs',
        "moesim evidence --pack my-runs --out results/mine",
    ),
)
command_line.add_typer(app, name="evidence")

SWEPT = (
    "warning: sweep: a run is one point, and its sweep is left out; where yours had what a point of"
    " it has, write that in {file}"
)
Pack = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A folder of runs, or a shipped one: published, throughputs, closed_loops,"
        " vllm_runs, phone, offload_sweeps, offload_reports, offload_late, llama_bench,"
        " two_cores, or all,"
        " with a row for each [published].",
    ),
]


@app.callback()
def evidence(
    context: typer.Context,
    *,
    pack: Pack = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Table, figures and page.")
    ] = Path("results/evidence"),
    runs: Annotated[
        list[str] | None, typer.Option("--run", metavar="NAME", help="Only this run; repeatable.")
    ] = None,
    report: Report = False,
    as_json: AsJson = False,
) -> None:
    """Predict every run of a pack from its experiment's file and show how far off each is, with the
    range that moesim would have stated. No number is fitted to the runs that judge.
    """
    if context.invoked_subcommand:
        return
    from moesim.api import evidence as evidence_of
    from moesim.calibrate.published.overview import COLUMNS
    from moesim.report.judged.evidence import lines, terminal_table
    from moesim.report.judged.evidence_overview import lines as overview_lines
    from moesim.report.judged.evidence_overview import terminal_table as overview_table

    try:
        with progress_bar("runs") as progress:
            table, paths = evidence_of(out, pack=pack, runs=runs, progress=progress)
    except KeyboardInterrupt:
        fail("stopped; the same command goes on with the runs that it has", INTERRUPTED)
    every = list(table.columns) == list(COLUMNS)
    told = overview_lines(table) if every else lines(table)
    if as_json:
        print_json({"told": told, "packs" if every else "runs": table.to_dict("records")})
        show_page(out, report=report and not every, stderr=True)
        return
    terminal().print(overview_table(table) if every else terminal_table(table))
    for line in told:
        typer.echo(line)
    for path in paths:
        typer.echo(path)
    show_page(out, report=report and not every)


@app.command(
    epilog=examples('moesim evidence add run.yaml --measured "17.8 tokens/s" --engine llama.cpp')
)
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The experiment that describes the run.")
    ],
    *,
    measured: Annotated[
        list[str],
        typer.Option(
            metavar="SPEED|TIME|FILE",
            help="'17.8 tokens/s', '56 ms/token', '800 ms TTFT', '5 s E2EL', or what"
            " llama-bench, vllm bench or SGLang's bench_serving wrote; repeatable.",
        ),
    ],
    pack: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder of runs, which may be new.")
    ] = Path("runs"),
    engine: Annotated[str, typer.Option(metavar="NAME", help="What ran it.")] = "",
    source: Annotated[str, typer.Option(metavar="TEXT", help="Where the number is from.")] = "",
    assumed: Annotated[
        str, typer.Option(metavar="TEXT", help="What the experiment has to assume.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Put a run of your own into a folder of runs: its experiment, and what it measured."""
    from moesim.calibrate.host.measured import measured_run
    from moesim.calibrate.host.same import check_not_fitted, check_same, run_warnings
    from moesim.calibrate.published.pack import SPEED, add_run, numbers_of, paths_told
    from moesim.experiment.building.build import with_layers_fitted
    from moesim.experiment.loading.inputs import inputs_of
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.loading.traces import model_of
    from moesim.experiment.schema.origins import placed
    from moesim.hardware.choice import gpu_and_host

    found = [measured_run(text) for text in measured]
    numbers = numbers_of(found)
    resolved = load_experiment(file, alone=True)
    experiment = resolved.experiment
    with placed(resolved.origins, resolved.file):
        if SPEED in numbers:
            check_not_fitted(experiment, numbers[SPEED])
        for one in found:
            check_same(with_layers_fitted(experiment), model_of(experiment), one)
    paths = paths_told(pack, file, inputs_of([experiment]))
    gpu, host = gpu_and_host(experiment.hardware)
    about = {
        "engine": engine or experiment.software,
        "model": experiment.model,
        "gpu": gpu,
        "cpu": host or "",
        "source": source or "; ".join(one.source for one in found if one.source),
        "assumed": assumed,
    }
    rows = add_run(pack, file, numbers, about)
    swept = [SWEPT.format(file=rows[0].file)] if experiment.sweep else []
    told = [line for one in found for line in run_warnings(experiment, one)]
    warn([*told, *swept, *paths])
    if as_json:
        print_json({"file": str(rows[0].file), **numbers})
        return
    for name, number in numbers.items():
        what = f"{number:g} tokens/s" if name == SPEED else f"{name} {number:g}"
        typer.echo(f"{rows[0].file}: {what}")
    typer.echo(f"next:   moesim evidence --pack {pack} --out results/{pack.name}")
