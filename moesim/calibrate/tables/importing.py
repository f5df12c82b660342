"""From the files that people have to one measurement table."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from moesim.calibrate.importers import Importer, registry
from moesim.calibrate.importers.base import File
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.measurements.columns import COUNTS, FLAGS, TEXTS
from moesim.hardware.measurements.validate import Finding, valid

ARCHIVES = (".whl", ".zip")


@dataclass
class Imported:
    """The table; per file, rows that cannot be; rows that were left out for other reasons; and the
    files that were read.
    """

    table: pd.DataFrame
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    read: list[Path] = field(default_factory=list)


def import_measurements(
    path: Path, only: Sequence[str] = (), importer: str | None = None, settings: Sequence[str] = ()
) -> Imported:
    """Read a file, a folder or a wheel; ``only`` are patterns that a file's path must match.

    ``settings`` (``hidden=2048``) fill columns that the files leave out. InputError where nothing
    is recognised.
    """
    values = dict(setting(text) for text in settings)
    result, tables = Imported(pd.DataFrame()), []
    for file in _files(path, only):
        reader = _reader(file, importer)
        if reader is None:
            continue
        raw = _read(reader, file)
        table, found = valid(_filled(raw, values))
        tables.append(table)
        result.read.append(Path(file.name) if path.is_dir() else path)
        result.findings += [(file.name, finding) for finding in found]
        for why, number in raw.attrs.get("left_out", {}).items():
            result.left_out[why] = result.left_out.get(why, 0) + number
    if not tables:
        what = f"no file here is one of {', '.join(registry.components)}"
        what += f" and matches {only}" if only else ""
        remedy = "; a table with the columns of a measurement table is none to import: give it to"
        raise InputError([Problem(str(path), "", f"{what}{remedy} 'moesim calibrate fit'")])
    for table in tables:
        table.attrs = {}
    result.table = pd.concat(tables, ignore_index=True)
    return result


def _files(path: Path, only: Sequence[str]) -> Iterator[File]:
    if not path.exists():
        raise InputError([Problem(str(path), "", "does not exist")])
    if path.is_file() and path.suffix in ARCHIVES:
        yield from _archived(path, only)
        return
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for entry in files:
        name = entry.as_posix()
        if entry.is_file() and (entry == path or _chosen(name, only)):
            yield File(name, entry.read_bytes())


def _archived(path: Path, only: Sequence[str]) -> Iterator[File]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith("/") and _chosen(name, only):
                    yield File(f"{path.name}/{name}", archive.read(name))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError) as error:
        raise InputError([Problem(str(path), "", f"cannot be read: {error}")]) from None


def _chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatch(name, f"*{pattern}*") for pattern in only)


def _reader(file: File, importer: str | None) -> Importer | None:
    if importer is not None:
        return registry.get(importer, "--importer")()
    readers = (kind() for kind in registry.components.values())
    return next((reader for reader in readers if reader.recognises(file)), None)


def setting(text: str, also: Collection[str] = ()) -> tuple[str, int | bool | str]:
    """``COLUMN=VALUE`` as a column's name and its value; InputError for anything else. ``also``:
    other columns, of any value.
    """
    name, equals, value = text.partition("=")
    allowed = dict.fromkeys((*TEXTS, *COUNTS, *FLAGS, *also))
    if not equals or name not in allowed:
        raise InputError(f"--set '{text}': write COLUMN=VALUE; {nearest(name, allowed)}")
    if name in COUNTS and not value.isdecimal():
        raise InputError(f"--set '{text}': '{name}' is a whole number")
    if name in FLAGS and value.lower() not in ("true", "false"):
        raise InputError(f"--set '{text}': '{name}' is true or false")
    if name in COUNTS:
        return name, int(value)
    return name, value.lower() == "true" if name in FLAGS else value


def _read(reader: Importer, file: File) -> pd.DataFrame:
    """The file's rows; other programs wrote it, so anything may be in it, or missing."""
    try:
        return reader.read(file)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        what = f"is no whole file of the form '{reader.kind}': {type(error).__name__}: {first}"
        raise InputError([Problem(file.name, "", what)]) from error


def _filled(table: pd.DataFrame, values: Mapping[str, int | bool | str]) -> pd.DataFrame:
    filled = table.copy(deep=False)
    for name, value in values.items():
        if name not in filled.columns:
            filled[name] = value
        else:
            filled[name] = filled[name].where(filled[name].notna(), value)
    return filled
