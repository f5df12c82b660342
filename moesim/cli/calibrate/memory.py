"""``moesim calibrate memory``: measure what experts on the CPU are read with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json
from moesim.cli.calibrate.app import app


@app.command(epilog=examples("moesim calibrate memory --out my-host.yaml"))
def memory(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="HOST", help="The host to write (.yaml).")
    ],
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to read.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Measure what threads read of this machine's memory, one by itself and up to one a core.
    'hardware: {gpu: ..., host: HOST}' takes it. Let nothing else run meanwhile.
    """
    from datetime import UTC, datetime

    from moesim.calibrate.collect.cpu import (
        cpu_name,
        memory_bytes,
        numa_nodes,
        physical_cores,
    )
    from moesim.calibrate.memory.measure import measured
    from moesim.calibrate.memory.part import System, host_of, vectors_of
    from moesim.calibrate.profile_file import check_profile, write_profile
    from moesim.hardware.operations.kernels.cpu_expert import FEW_CORES

    check_profile(out)
    reads = list(measured(seconds))
    system = System(memory_bytes(), numa_nodes(), physical_cores(), vectors_of())
    told = f"{cpu_name()}, {datetime.now(UTC):%d %B %Y}"
    write_profile(out, host_of(out.stem, reads, system, told))
    if as_json:
        print_json({"file": str(out), "reads": [one._asdict() for one in reads]})
        return
    for one in reads:
        many = "thread " if one.threads == 1 else "threads"
        typer.echo(f"{one.threads:4} {many} {one.bytes_per_second / 1e9:7.1f} GB/s")
    if system.cores > FEW_CORES:
        typer.echo("experts on large servers reach 32 to 80 % of that: 'moesim calibrate host'")
    typer.echo("prompts: say the clock while all cores compute (core_clock), else 3.5 GHz is taken")
    typer.echo(f"host:   {out}")
