"""``moesim calibrate``: measurements in, fitted profiles and their errors out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, Method, Software, examples, fail, print_json, terminal
from moesim.cli.app import app as command_line

app = typer.Typer(
    no_args_is_help=True,
    help="Measure, or import measurements; fit a profile to them, check its errors.",
)
command_line.add_typer(app, name="calibrate")

SHOWN = 20


@app.command("import", epilog=examples("moesim calibrate import MEASUREMENTS --out table.parquet"))
def import_(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="Measurements; a wheel is read as it is.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The table: .parquet or .csv.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(help="Read only files whose path matches, as in 'h100_sxm/moe/vllm/0.24.0'."),
    ] = None,
    importer: Annotated[
        str | None, typer.Option(help="The format, instead of recognising it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="COLUMN=VALUE", help="Fill a column that the files leave out."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn measurements of any known form into one measurement table."""
    from moesim.calibrate.tables.importing import import_measurements
    from moesim.config.counted import counted
    from moesim.config.errors import InputError, Problem, check_apart
    from moesim.hardware.measurements.table import ops_of, write_table

    done = import_measurements(path, only or (), importer, settings or ())
    check_apart(out, *done.read)
    for name, finding in done.findings[:SHOWN]:
        typer.echo(f"{name}:{finding.line}: left out: {finding.what}", err=True)
    if (more := len(done.findings) - SHOWN) > 0:
        typer.echo(f"... and {more} more rows left out as impossible", err=True)
    for why, number in done.left_out.items():
        typer.echo(f"note: {counted(number, 'row')} not imported: {why}", err=True)
    if done.table.empty:
        raise InputError([Problem(str(path), "", "no row is left to write")])
    write_table(done.table, out)
    if as_json:
        ops, files_read = dict(ops_of(done.table)), [str(one) for one in done.read]
        print_json({"file": str(out), "rows": len(done.table), "ops": ops, "files": files_read})
        return
    counts = ", ".join(f"{number} {op}" for op, number in ops_of(done.table).items())
    rows, files = counted(len(done.table), "row"), counted(len(done.read), "file")
    typer.echo(f"{out}: {rows} from {files} ({counts})")


@app.command(epilog=examples("moesim calibrate fit table.parquet --out mine.yaml"))
def fit(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Measurement tables.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The profile to write (.yaml).")
    ],
    base: Annotated[
        str | None,
        typer.Option(help="The profile with the card's datasheet; else found by 'device'."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a profile's calibrated part to measurements."""
    from moesim.calibrate.fit import fit_table
    from moesim.calibrate.profile_file import profile_text, write_profile
    from moesim.calibrate.tables.intake import base_of, intake
    from moesim.config.errors import check_apart
    from moesim.hardware import hardware_file

    profile, name = base_of(tables, base)
    check_apart(out, *tables, hardware_file(name))
    taken = intake(tables, profile)
    for line in taken.told[:SHOWN]:
        typer.echo(line, err=True)
    if (more := len(taken.told) - SHOWN) > 0:
        typer.echo(f"... and {more} more such lines", err=True)
    fits = fit_table(taken.table, profile)
    for line in fits.missing:
        typer.echo(f"not fitted: {line}", err=True)
    if not fits.lines():
        fail("nothing could be fitted, and nothing was written", 1)
    write_profile(out, profile_text(name, f"{profile.title}, fitted", fits))
    if as_json:
        told = {kind: len(found) for kind, found in fits.by_kind().items()}
        print_json({"file": str(out), "fits": told, "told": list(fits.lines())})
        return
    for line in fits.lines():
        typer.echo(line)
    counts = ", ".join(f"{len(found)} of {kind}" for kind, found in fits.by_kind().items() if found)
    typer.echo(f"{out}: fits: {counts}")


@app.command(epilog=examples("moesim calibrate check mine.yaml table.parquet --out check.png"))
def check(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile: name or file.")],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A measurement table.")],
    *,
    method: Method = "auto",
    software: Software = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FIGURE", help="Draw a figure (.png).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a profile's prices with measurements: errors by op, shape and size."""
    from moesim.calibrate.prices.check import compare, error_tables
    from moesim.calibrate.tables.intake import intake
    from moesim.hardware.load import as_run_by

    hardware = as_run_by(profile, software)
    taken = intake([table], hardware)
    for line in taken.told[:SHOWN]:
        typer.echo(line, err=True)
    if (more := len(taken.told) - SHOWN) > 0:
        typer.echo(f"... and {more} more such lines", err=True)
    compared = compare(hardware, taken.table, method)
    if as_json:
        print_json({"rows": compared.to_dict("records")})
    else:
        for shown in error_tables(compared):
            terminal().print(shown)
    if out is not None:
        from moesim.report.judged.calibration import draw

        typer.echo(str(draw(compared, out)), err=as_json)
