"""A folder of published runs: their experiments, and a table of what they measured."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.calibrate.host.measured import OPTION, Measured
from moesim.config.errors import InputError, Problem, nearest, writing
from moesim.config.files.files import write_whole
from moesim.config.files.inputs import Inputs
from moesim.config.files.paths import shipped_folder
from moesim.config.text import decoded

TABLE = "measured.csv"
SPEED = "measured_tokens_per_s"
ALL = "all"
"""In place of a pack's name: every shipped one."""
OPTIONAL = ("file", "set", "of", "measured_ms")
"""Where rows share an experiment: its file's name without ``.yaml``, and its settings' words. Where
a time of requests was measured: which (one of ``TIMES``), and how long it was.
"""
TIMES = ("mean_tpot_ms", "mean_ttft_ms", "mean_e2el_ms")
"""What else than the output's throughput a row may be of: numbers of a run's summary."""
_BETWEEN_SETTINGS = re.compile(r"\s+(?=[\w.-]+=)")
COLUMNS = (
    "run", "engine", "model", "gpu", "cpu", "host", SPEED, "setting", "certainty",
    "assumed", "source",
)  # fmt: skip


@dataclass(frozen=True)
class PublishedRun:
    """A row of the table, and its experiment: ``file`` with ``settings`` (``PATH=VALUE`` each);
    ``host``: a name for the machine whose CPU computes experts, "" where none does. ``of``: the
    time of requests that was measured; its speed is that many a second.
    """

    run: str
    engine: str
    model: str
    gpu: str
    cpu: str
    host: str
    measured_tokens_per_s: float
    setting: str
    certainty: str
    assumed: str
    source: str
    file: Path
    settings: tuple[str, ...] = ()
    of: str = ""

    @property
    def family(self) -> str:
        """The engine without its version."""
        return (self.engine.split() or ["unknown"])[0]


def shipped_packs() -> list[str]:
    """The names of the packs that are shipped, sorted."""
    return sorted(
        path.parent.name for path in (shipped_folder() / "experiments").glob(f"*/{TABLE}")
    )


def pack_folder(pack: Path | str) -> Path:
    """The folder ``pack``, or where there is none the shipped pack of that name; InputError where
    there is neither.
    """
    folder, shipped = Path(pack), shipped_folder() / "experiments" / pack
    if folder.exists():
        return folder
    if not (shipped / TABLE).is_file():
        what = f"there is no folder '{pack}', which 'moesim evidence add' begins, nor a shipped"
        what = f"{what} pack of that name: {nearest(str(pack), [*shipped_packs(), ALL])}"
        raise InputError([Problem("--pack", "", what)])
    return shipped


def numbers_of(runs: Iterable[Measured]) -> dict[str, float]:
    """What all of ``runs``, which are one run told in parts, measured: numbers by ``SPEED`` and
    ``TIMES``; InputError, at ``OPTION``, where two say the same.
    """
    numbers: dict[str, float] = {}
    for run in runs:
        for name, number in (run.times or {SPEED: run.tokens_per_s}).items():
            if name in numbers:
                what = f"{name} is given twice, {numbers[name]:g} and {number:g}; give it once"
                raise InputError([Problem(OPTION, "", what)])
            numbers[name] = number
    return numbers


def add_run(
    folder: Path, file: Path, measured: Mapping[str, float], about: Mapping[str, str]
) -> list[PublishedRun]:
    """Put the experiment in ``file`` into the pack in ``folder``, which may be new, with what it
    measured by name (``SPEED``, ``TIMES``; a row each), and what ``about`` says of it by column;
    the rows.

    InputError where the pack has a run of its name, would hide a shipped one of its own, or cannot
    be written.
    """
    name, table = file.stem, folder / TABLE
    if str(folder) in (*shipped_packs(), ALL):
        what = f"'{folder}' is a shipped pack; a folder of that name would be taken in its place"
        raise InputError([Problem("--pack", "", f"{what}: name another, as in my-runs")])
    known = read_pack(folder) if table.is_file() else []
    rows = _rows_of(name, measured, about)
    taken = {one.run for one in known}
    if taken & {row["run"] for row in rows} or (folder / file.name).exists():
        what = f"'{name}' is in {folder}; name the file otherwise"
        raise InputError([Problem(str(file), "", what)])
    with writing(table, "--pack"):
        write_whole(folder / f"{name}.yaml", _text_of(file))
        write_whole(table, _with_rows(_text_of(table) if known else "", rows))
    return read_pack(folder)[-len(rows) :]


def _rows_of(
    name: str, measured: Mapping[str, float], about: Mapping[str, str]
) -> list[dict[str, str]]:
    def row(of: str, number: float) -> dict[str, str]:
        if of == SPEED:
            return {"run": name, SPEED: f"{number:g}"}
        run = f"{name}-{of.split('_')[1]}"
        return {"run": run, "file": name, "of": of, "measured_ms": f"{number:g}"}

    return [{**about, **row(of, number)} for of, number in measured.items()]


def _text_of(file: Path) -> str:
    return decoded(file.read_bytes(), str(file))


def _with_rows(text: str, rows: Sequence[Mapping[str, str]]) -> str:
    """The table ``text`` ("": a new one) with ``rows``, under the columns that it has and those
    that these need.
    """
    known = csv.DictReader(io.StringIO(text or f"{','.join(COLUMNS)}\n"))
    columns = list(
        dict.fromkeys([*(known.fieldnames or ()), *(key for row in rows for key in row)])
    )
    lines = io.StringIO()
    writer = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*known, *rows])
    return lines.getvalue()


def paths_told(folder: Path, file: Path, inputs: Inputs) -> list[str]:
    """A warning for each file that the experiment in ``file`` names by a path which its copy in
    ``folder`` may not find.
    """
    text, known = _text_of(file), (folder.resolve(), shipped_folder().resolve())
    found = {key: files[0].path.resolve() for (key, _), files in inputs.items() if files}
    return [
        f"warning: {key}: '{path.name}' is {path} here; {folder / file.name} may not find it from"
        " elsewhere: write the whole path there"
        for key, path in found.items()
        if path.name in text and str(path) not in text and not set(known) & set(path.parents)
    ]


def read_pack(folder: Path) -> list[PublishedRun]:
    """The runs of ``folder``: its ``measured.csv``, and ``RUN.yaml`` for each row, or what its
    column ``file`` names, with the settings in its column ``set``.

    InputError for columns that are missing, speeds that are none, and runs without a file.
    """
    path = folder / TABLE
    if not path.exists():
        what = (
            "there is no such table: a folder of runs has one, which 'moesim evidence add' begins"
        )
        raise InputError([Problem(str(path), "", what)])
    try:
        table = pd.read_csv(io.StringIO(_text_of(path)), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError([Problem(str(path), "", f"cannot be read: {error}")]) from None
    if missing := [name for name in COLUMNS if name not in table.columns]:
        what = f"has no column '{missing[0]}'; it needs {', '.join(COLUMNS)}"
        raise InputError([Problem(f"{path}:1", "", what)])
    rows = table.reindex(columns=[*COLUMNS, *OPTIONAL], fill_value="").to_dict("records")
    return [_run(folder, f"{path}:{line}", row) for line, row in enumerate(rows, 2)]


def _run(folder: Path, where: str, row: dict[Any, Any]) -> PublishedRun:
    speed = _speed(where, row)
    name, settings = row.pop("file"), tuple(_settings(row.pop("set")))
    if not (file := folder / f"{name or row['run']}.yaml").is_file():
        key = "file" if name else "run"
        raise InputError([Problem(where, key, f"there is no experiment {file}")])
    return PublishedRun(**{**row, "measured_tokens_per_s": speed}, file=file, settings=settings)


def _settings(text: str) -> list[str]:
    """``PATH=VALUE`` each, with blanks between, which a value may have too (6 slots/layer)."""
    return [one for one in _BETWEEN_SETTINGS.split(text.strip()) if one]


def _speed(where: str, row: dict[Any, Any]) -> float:
    """A second, of tokens or of what took ``measured_ms``, which is taken out of the ``row``."""
    time, of = row.pop("measured_ms"), row["of"]
    if of and of not in TIMES:
        raise InputError([Problem(where, "of", f"'{of}': {nearest(of, TIMES)}")])
    key, told = ("measured_ms", time) if of else (SPEED, row[SPEED])
    number = pd.to_numeric(told, errors="coerce")
    if not 0 < number < float("inf"):
        raise InputError([Problem(where, key, f"'{told}' is no number above 0")])
    return 1e3 / float(number) if of else float(number)
