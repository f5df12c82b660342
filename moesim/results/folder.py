"""A result as a folder: summary.json, Parquet tables, experiment.yaml, provenance.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from moesim.config.arguments import check_path
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import check_regular
from moesim.config.json_text import read_object
from moesim.config.strict_yaml.numbers import plain_scalar
from moesim.config.strict_yaml.yaml import read_document
from moesim.results.files import (
    UNREADABLE,
    check_new_folder,
    first_line,
    plain,
    whole_folder,
    write_json,
)
from moesim.results.overwrite import check_folder
from moesim.results.provenance import FORMAT, digest
from moesim.results.renamed import COLUMNS, check_names
from moesim.results.result import OPTIONAL, TABLES, TEXTS, Result, empty_table
from moesim.results.shape import Configuration, Provenance, Summary, check_shape
from moesim.results.store import LOG, PACKS, POINTS, is_stored, read_stored

SUMMARY, PROVENANCE, EXPERIMENT = "summary.json", "provenance.json", "experiment.yaml"
ADVICE = "advice.json"

__all__ = ["check_new_folder", "is_result", "read_experiment", "read_result", "write_result"]


def write_result(result: Result, folder: Path | str, *, overwrite: bool = False) -> Path:
    """Write ``result`` to ``folder``, which must be new or empty: it appears whole or not at all.

    ``overwrite``: or hold a run that moesim wrote, which is replaced. Raises an InputError where
    the folder holds other files or cannot be written.
    """
    target = Path(folder)
    if overwrite:
        check_folder(target, overwrite=True)
    with whole_folder(target, instead=overwrite) as temporary:
        for name in TABLES:
            table: pd.DataFrame = getattr(result, name)
            if name not in OPTIONAL or len(table):
                write_table(table, temporary / f"{name}.parquet")
        text = experiment_text(result.configuration)
        (temporary / EXPERIMENT).write_text(text, encoding="utf-8")
        tables = {path.name: digest(path) for path in sorted(temporary.glob("*.parquet"))}
        write_json(
            temporary / PROVENANCE, {**result.provenance, "format": FORMAT, "tables": tables}
        )
        write_json(temporary / SUMMARY, result.summary)
    return target


def experiment_text(experiment: Any) -> str:
    """The file of an ``experiment``, which is read as what it is."""
    text: str = yaml.dump(plain(experiment), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 reads as text and moesim as a number, such as ``1e9``."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if plain_scalar(value) == value else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write ``table`` as Parquet, without its index."""
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """The table in ``path``; an InputError where it is missing, no Parquet or has a
    column with an earlier name.
    """
    check_regular(path)
    try:
        with pq.ParquetFile(path) as file:  # not as a set of files, to find which takes as long
            frame: pd.DataFrame = file.read().to_pandas()
    except UNREADABLE as error:
        raise _unusable(path.parent, f"{path.name} cannot be read ({first_line(error)})") from error
    check_names(str(path), frame.columns, COLUMNS)
    return frame


def is_result(folder: Path | str) -> bool:
    """Whether ``folder`` looks like one run's result, or names a finished point of a sweep."""
    return (Path(folder) / SUMMARY).is_file() or is_stored(Path(folder))


def read_result(folder: Path | str) -> Result:
    """The result in ``folder``, which may be ``SWEEP/points/NUMBER``: a point of a sweep.

    Raises an InputError that says what is wrong where the folder is missing, half-written,
    altered, or written in a later format.
    """
    check_path(folder)
    source = Path(folder)
    if is_stored(source):
        return read_stored(source)
    if not source.is_dir():
        raise _unusable(source, no_folder(source))
    if (source / LOG).is_file():
        what = f"is a sweep; name one of its points, as in '{source / POINTS / '0000'}'"
        raise InputError([Problem(str(source), "", what)])
    provenance = check_format(source)
    check_shape(provenance, Provenance, str(source / PROVENANCE))
    summary = _checked_json(source, SUMMARY)
    check_names(str(source / SUMMARY), summary)
    check_shape(summary, Summary, str(source / SUMMARY))
    digests = provenance.get("tables", {})
    tables = {name: _read_columns(source, name, digests) for name in TABLES}
    return Result(summary, read_experiment(source), provenance, **tables)


def check_format(folder: Path) -> dict[str, Any]:
    """The provenance of the run in ``folder``; an InputError where it is of another format."""
    provenance = _checked_json(folder, PROVENANCE)
    if (found := provenance.get("format")) == FORMAT:
        return provenance
    what = f"its format is {found!r}, this moesim reads {FORMAT}"
    what += f"; run its {EXPERIMENT} anew, or read it with the moesim that wrote it"
    if writer := provenance.get("moesim"):
        what += f", {writer}"
    raise InputError([Problem(str(folder), "", what)])


def no_folder(path: Path) -> str:
    """What to say of a ``path`` that is given for the folder of a result and is no folder."""
    if not path.is_file():
        return "no such folder"
    if is_result(path.parent) or (path.parent / PACKS).is_dir():
        return f"is a file of a result; name its folder, '{path.parent}'"
    return "is a file, and the folder of a result is expected here"


def files_read(folder: Path) -> list[Path]:
    """The files that ``read_result`` reads for ``folder``, and what else its sweep stands on."""
    if is_stored(folder):
        sweep = folder.parent.parent
        named = (LOG, "sweep.json", "points.csv", "points.parquet")
        return [*(sweep / name for name in named), *(sweep / PACKS).glob("*")]
    tables = (f"{name}.parquet" for name in TABLES)
    return [folder / name for name in (SUMMARY, PROVENANCE, EXPERIMENT, *tables)]


def inputs_read(folder: Path) -> list[Path]:
    """The files that the run in ``folder`` was made from."""
    return [Path(entry["path"]) for entry in read_provenance(folder).get("inputs", {}).values()]


def read_experiment(folder: Path | str) -> dict[str, Any]:
    """The resolved experiment of a result folder, as plain values."""
    source = Path(folder)
    if is_stored(source):
        return read_stored(source, ()).configuration
    value = read_document(source / EXPERIMENT).data
    if not isinstance(value, dict):
        raise _unusable(source, f"{EXPERIMENT} holds no experiment")
    check_shape(value, Configuration, str(source / EXPERIMENT))
    return value


def read_provenance(folder: Path) -> dict[str, Any]:
    """What it takes to run the result in ``folder`` again."""
    if is_stored(folder):
        return read_stored(folder, ()).provenance
    provenance = read_object(folder / PROVENANCE)
    check_shape(provenance, Provenance, str(folder / PROVENANCE))
    return provenance


def _checked_json(source: Path, name: str) -> dict[str, Any]:
    if not (source / name).is_file():
        raise _unusable(source, f"{name} is missing")
    try:
        return read_object(source / name)
    except InputError as error:
        raise _unusable(source, f"{name} {error.problems[0].what}") from error


def _read_columns(source: Path, name: str, digests: Mapping[str, str]) -> pd.DataFrame:
    path = source / f"{name}.parquet"
    if name in OPTIONAL and path.name not in digests:
        return empty_table(name)
    if not path.is_file():
        raise _unusable(source, f"{path.name} is missing")
    if digest(path) != digests.get(path.name):
        raise _unusable(source, f"{path.name} is not as it was written")
    table = read_table(path)
    missing = [column for column in TABLES[name] if column not in table.columns]
    if missing:
        raise _unusable(source, f"{path.name} has no column '{missing[0]}'")
    numbers = (column for column in TABLES[name] if column not in TEXTS.get(name, ()))
    texts = [column for column in numbers if not _is_number(table[column])]
    if texts and len(table):
        raise _unusable(source, f"the column '{texts[0]}' of {path.name} holds no numbers")
    return table


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)


def _unusable(folder: Path, what: str) -> InputError:
    remedy = "a result folder is what 'moesim run FILE --out DIR' writes"
    if (folder / ADVICE).exists():
        what = "is the folder of an advice"
        run = f"'moesim run {folder / EXPERIMENT} --out DIR'"
        if not (folder / EXPERIMENT).exists():  # an experiment was asked about, not a model
            run = "what 'moesim advise' prints behind 'again:', with --out DIR,"
        remedy = f"{run} makes a result of its best"
    return InputError([Problem(str(folder), "", f"{what}; {remedy}")])
