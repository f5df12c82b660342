"""``moesim run``: one experiment, simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import (
    AsJson,
    Cache,
    ExperimentFile,
    Overrides,
    Overwrite,
    Report,
    app,
    examples,
    print_json,
    show_page,
    terminal,
    warn,
)

OutFolder = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="A new or an empty folder [results/NAME]."),
]
Engine = Annotated[
    str | None,
    typer.Option("--engine", metavar="NAME", help="Use this engine: auto, des or replay."),
]


@app.command(
    epilog=examples(
        "moesim run experiments/quickstart.yaml --out results/one",
        "moesim run experiments/quickstart.yaml --set experts.policy.kind=lfu --overwrite",
    )
)
def run(
    file: ExperimentFile,
    *,
    out: OutFolder = None,
    engine: Engine = None,
    check: Annotated[
        bool, typer.Option("--check", help="Verify the engine's invariants on the way (slower).")
    ] = False,
    overwrite: Overwrite = False,
    cache: Cache = None,
    report: Report = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Simulate an experiment (its base point, where it has a sweep) and write a result folder."""
    from moesim.cli.progress import progress_bar
    from moesim.experiment.loading.once import read_once
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.loading.warnings import (
        borrowed_routing,
        empty_slots,
        idle_prefetch,
        of_inputs,
    )
    from moesim.experiment.questions.fit import fewest_on_cpu
    from moesim.experiment.questions.formats import smaller_format
    from moesim.experiment.running.cache import cache_folder
    from moesim.experiment.running.large_records import large_records
    from moesim.experiment.running.run import run as simulate
    from moesim.experiment.schema.origins import placed
    from moesim.report.run.table import lacks_memory, remedy, summary_table
    from moesim.results.overwrite import check_folder
    from moesim.results.result import setting_in_words
    from moesim.results.store import REUSED

    settings = [*(overrides or ()), *([f"engine={engine}"] if engine else [])]
    with read_once():
        resolved = load_experiment(file, settings, alone=True)
        kept = cache_folder(cache)
        folder = out or Path("results") / resolved.experiment.name
        check_folder(folder, overwrite=overwrite)
        with placed(resolved.origins, file):
            warn([*of_inputs([resolved.experiment]), *large_records([resolved.experiment])])
            of = "requests" if resolved.experiment.workload.batching.serves else "passes"
            with progress_bar(of) as progress:
                result = simulate(
                    resolved, out=folder, overwrite=overwrite, check=check, cache=kept,
                    progress=progress,
                )  # fmt: skip
    of_run = (resolved.experiment, result.summary)
    told = (idle_prefetch, empty_slots, borrowed_routing)
    warn([line for lines in told for line in lines(*of_run)])
    if as_json:
        print_json(result.summary)
        show_page(folder, report=report, stderr=True)
        return
    terminal().print(summary_table(result.summary, setting_in_words(result.configuration)))
    if lacks_memory(result.summary):
        one = resolved.experiment
        ways = (fewest_on_cpu(one), smaller_format(one))
        slots = one.experts.capacity.kind != "auto" and not one.experts.on_cpu.fitted
        serves = one.workload.batching.serves
        blocks = serves and one.memory is not None and not one.memory.kv.is_left
        typer.echo(remedy(file, *ways, slots=slots, blocks=blocks))
    checks = result.summary.get("checks") or {}
    for number, digest in enumerate(checks.get("schedule_digests", ()), 1):
        last = min(1000 * number, result.summary["steps"])
        typer.echo(f"schedule to step {last:,}: {digest}")
    if REUSED in result.provenance:
        typer.echo("from the cache; --cache none simulates it again")
    typer.echo(f"result: {folder}\nnext:   moesim plot {folder}")
    show_page(folder, report=report)
