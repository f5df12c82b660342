"""What ``moesim calibrate collect`` does before and after measuring."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from moesim.calibrate.collect.base_profile import base_text
from moesim.calibrate.collect.choice import points_of
from moesim.calibrate.collect.cpu import Cpu, physical_cores
from moesim.calibrate.collect.device import Device, known_dtypes, torch_library
from moesim.calibrate.collect.peaks import peaks_of
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.session import Session
from moesim.calibrate.collect.shapes import Shapes, shapes_for
from moesim.calibrate.tables.intake import shipped_profile
from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem, nearest, writing
from moesim.config.files.files import write_whole
from moesim.hardware.measurements.table import ops_of, read_table
from moesim.hardware.measurements.validate import valid

KINDS = ("auto", "cpu", "cuda")


def prepare(
    out: Path,
    models: Sequence[str],
    device: str,
    only: Sequence[str],
    dtypes: Sequence[str],
    threads: int,
    resume: bool,
    started_at: float | None = None,
) -> Session:
    """A session ready to measure; InputError for what cannot be, before anything is measured.

    ``started_at``: since when its time counts, by ``time.monotonic``; default now.
    """
    _check_out(out, resume)
    kind = _kind(device)
    if threads > (cores := os.cpu_count() or 1):
        raise InputError(f"--threads {threads}: this machine has {cores}")
    shapes, short = shapes_for(models, kind), known_dtypes(dtypes, kind)
    found = _device(kind, threads)
    points = points_of(_plan(found, shapes, short), only)
    found.pool.reserve(max((point.operand_bytes for point in points), default=0))
    session = Session(found, points, out, torch_library().__version__)
    session.started_at = session.started_at if started_at is None else started_at
    if resume and out.exists():
        session.resume()
    return session


def finish(session: Session) -> Iterator[str]:
    """Write the base profile where none is shipped, and say what there is now."""
    yield from session.notes()
    if not session.out.exists():
        yield "nothing was measured"
        return
    table = session.table()
    counts = ", ".join(f"{number} {op}" for op, number in ops_of(table).items())
    yield f"{session.out}: {counted(len(table), 'row')} ({counts})"
    shipped = shipped_profile(session.device.name)
    if shipped is None:
        profile = session.out.with_suffix(".yaml")
        clean, _ = valid(read_table(session.out))
        device = session.device
        peaks = peaks_of(clean, device.cache_bytes, device.kind == "cpu")
        title = f"{device.name}, measured {session.facts['measured']}"
        write_whole(profile, base_text(title, peaks, session.facts))
        yield f"{profile}: a base profile of this machine"
    base = shipped or session.out.with_suffix(".yaml")
    yield f"next: moesim calibrate fit {session.out} --base {base} -o PROFILE.yaml"


def _check_out(out: Path, resume: bool) -> None:
    if out.suffix != ".parquet":
        raise InputError(f"--out '{out}': the table is a .parquet file")
    if out.exists() and not resume:
        what = "is there already; give another --out, or --resume to add what it lacks"
        raise InputError([Problem(str(out), "", what)])
    profile = out.with_suffix(".yaml")
    if profile.exists() and not out.exists():
        what = "is there already, where the base profile would be; give another --out"
        raise InputError([Problem(str(profile), "", what)])
    with writing(out), TemporaryFile(dir=out.parent):
        pass


def _kind(device: str) -> str:
    if device not in KINDS:
        raise InputError(f"--device '{device}' is no device; {nearest(device, KINDS)}")
    has_gpu = bool(torch_library().cuda.is_available())
    if device == "cuda" and not has_gpu:
        raise InputError("--device cuda: torch finds no GPU here; use --device cpu")
    return ("cuda" if has_gpu else "cpu") if device == "auto" else device


def _plan(device: Device, shapes: Shapes, dtypes: tuple[str, ...]) -> Plan:
    return Plan(
        kind=device.kind,
        shapes=shapes,
        dtypes=dtypes,
        gpus=device.gpus,
        cores=physical_cores(),
        cache_bytes=device.cache_bytes,
        memory_bytes=device.memory_bytes,
    )


def _device(kind: str, threads: int) -> Device:
    if kind == "cpu":
        return Cpu(threads)
    from moesim.calibrate.collect.cuda import Cuda

    return Cuda()
