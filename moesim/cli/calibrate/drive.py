"""``moesim calibrate drive``: measure what experts are read from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json, terminal
from moesim.cli.calibrate.app import app
from moesim.config.amounts.sizes import MIB

MUCH_AROUND = 1 * MIB
"""Bytes of read-ahead above which it is told: with 8 MiB llama.cpp was four to eight times as slow
as with 128 KiB (docs/storage.md).
"""


@app.command(epilog=examples("moesim calibrate drive model.gguf --seconds 30 --out my-drive.yaml"))
def drive(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A large file on the drive, best the model.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DRIVE", help="The part to write (.yaml).")
    ],
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to read.")] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Measure a drive by reading FILE at random places: by size, by requests at a time, directly,
    through the system's cache and by page faults. 'hardware: {base: ..., storage: DRIVE}' takes it.
    """
    from datetime import UTC, datetime
    from shutil import disk_usage

    from moesim.calibrate.drive.measure import measured, read_ahead_of
    from moesim.calibrate.drive.part import Drive
    from moesim.calibrate.profile_file import check_profile, write_profile
    from moesim.config.errors import check_apart
    from moesim.report.judged.drive import table

    check_profile(out)
    check_apart(out, file)
    rates = list(measured(file, seconds))
    found = Drive.of(rates, read_ahead_of(file))
    if not as_json:
        terminal().print(table(rates))
    told = f"a file of {file.stat().st_size / 1e9:.1f} GB, {datetime.now(UTC):%d %B %Y}"
    write_profile(out, found.text(out.stem, disk_usage(file).total, told))
    if as_json:
        rate, mapped = found.bandwidth, found.mapped_bandwidth
        print_json(
            {
                "file": str(out), "path": found.path, "bytes_per_s": rate,
                "latency_ns": found.latency_ns, "in_flight": found.in_flight,
                "mapped_bytes_per_s": mapped, "read_ahead_bytes": found.read_ahead,
            }
        )  # fmt: skip
        return
    typer.echo(
        f"{found.path}: {found.bandwidth / 1e9:.2f} GB/s, {found.latency_ns / 1e3:.0f} us a read,"
        f" {found.in_flight} in flight; page faults {found.mapped_bandwidth / 1e9:.2f} GB/s"
    )
    if (around := found.read_ahead or 0) > MUCH_AROUND:
        typer.echo(
            f"page faults read {around // MIB} MiB around each matrix of an expert: a mapped file"
            " may be several times as fast with less (blockdev --setra 256 of its drive is 128 KiB)"
        )
    if found.path != "direct":
        typer.echo("reads past the system's cache are not possible here: it may have helped")
    typer.echo(f"drive:  {out}")
