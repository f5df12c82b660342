"""``moesim calibrate software``: what an engine's own software costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json, terminal
from moesim.cli.calibrate.app import app


@app.command(
    epilog=examples(
        "moesim calibrate software runs.csv --model gpt-oss-20b --hardware rtx-4090 -o mine.yaml"
    )
)
def software(
    table: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="CSV of runs: slots, hits (ratio), tokens_per_s."),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PROFILE", help="The profile to write (.yaml).")
    ],
    model: Annotated[str, typer.Option(metavar="CARD|FILE", help="The model of the runs.")],
    hardware: Annotated[str, typer.Option(metavar="PROFILE", help="The machine of the runs.")],
    bits: Annotated[
        float | None,
        typer.Option(help="Bits of a weight with its scales, where the model's file has others."),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="What copies to the GPU reach, as in '25.6 GB/s'."),
    ] = None,
    copied: Annotated[str, typer.Option(help="One copy brings: expert or matrix.")] = "expert",
    pageable: Annotated[
        bool, typer.Option("--pageable", help="Copies come from pageable host memory.")
    ] = False,
    fit: Annotated[
        str, typer.Option(metavar="SLOTS", help="Fit only these rows, '73,146'; judge the others.")
    ] = "",
    context: Annotated[int, typer.Option(min=1, help="Keys that a token attends to.")] = 256,
    trace: Annotated[
        str | None,
        typer.Option(help="Show the hits of this trace beside the rows' (lru, slots of experts)."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the rows are, for the profile.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a software profile to your engine's runs with offloaded experts, batch 1, one GPU."""
    from moesim.calibrate.profile_file import write_profile
    from moesim.calibrate.software.fit import fit_software, terms_of
    from moesim.calibrate.software.profile import software_text
    from moesim.calibrate.software.rows import read_rows
    from moesim.calibrate.software.setting import AtBits, software_of, with_link
    from moesim.config.errors import check_apart
    from moesim.hardware import hardware_file, load_hardware
    from moesim.model import load_model
    from moesim.report.judged.software import lines, rows_table, trace_line

    check_apart(out, table, hardware_file(hardware), Path(model))
    rows = read_rows(table, [name.strip() for name in fit.split(",") if name.strip()])
    kind = software_of(copied, pinned=not pageable)
    spec, machine = load_model(model), load_hardware(hardware)
    spec = spec if bits is None else AtBits(bits).model(spec)
    machine = machine if link is None else with_link(machine, link, pinned=kind.pinned)
    terms = terms_of(spec, machine, kind, context)
    found = fit_software(rows, terms)
    hits = None
    if trace is not None:
        from moesim.calibrate.software.trace import trace_hits

        hits = trace_hits(trace, model, hardware, list(found.table["slots"]))
    title = f"Fitted to {table.name}: {spec.name} on {machine.title}"
    write_profile(out, software_text(found, kind, title, source or table.name))
    told = [*lines(found, terms.resident_ns), *([trace_line(found, hits)] if hits else [])]
    if as_json:
        print_json({"file": str(out), "rows": found.table.to_dict("records"), "told": told})
        return
    terminal().print(rows_table(found, hits))
    for line in told:
        typer.echo(line)
    typer.echo(f"{out}: use it with 'software: {out}'")
