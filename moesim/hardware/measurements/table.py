"""Reading and writing measurement tables."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file, replacing
from moesim.config.text import decoded
from moesim.hardware.measurements.columns import COLUMNS, FLAGS, SHAPES, TEXTS
from moesim.hardware.measurements.validate import LINE

SUFFIXES = (".parquet", ".csv")
NUMERIC = ("integer", "floating", "mixed-integer-float", "decimal", "string", "empty")
PLAIN = (*NUMERIC, "boolean", "bytes", "categorical", "mixed-integer")
"""What pandas calls types of single values."""


def read_table(path: str | Path) -> pd.DataFrame:
    """The table in a Parquet or CSV file, all its columns, with its lines in ``LINE``.

    A line is that of the CSV file, or the row of the Parquet file from 1. InputError where the
    file cannot be read or has no ``op``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError([Problem(str(path), "", "is not a file; name a measurement table")])
    if path.suffix not in SUFFIXES:
        what = f"is neither of {', '.join(SUFFIXES)}; 'moesim calibrate import' makes a table"
        raise InputError([Problem(str(path), "", what)])
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError([Problem(str(path), "", f"cannot be read: {error}")]) from None
    table = as_table(frame, str(path), first=1 if path.suffix == ".parquet" else 2)
    if path.suffix == ".csv":
        blank = table.drop(columns=LINE).isna().all(axis=1)
        table = table[~blank].reset_index(drop=True)
    return table


def as_table(frame: pd.DataFrame, name: str, first: int = 1) -> pd.DataFrame:
    """``frame``, which is called ``name``, with its lines from ``first`` on in ``LINE`` (those that
    it has are kept), and ``rows`` as lists. InputError where it has no ``op``, or a column of
    values that none can have.
    """
    if "op" not in frame.columns:
        columns = ", ".join(map(str, frame.columns))
        what = "has no column 'op'" + (f", only {columns}" if columns else "")
        other = any(mark in columns for mark in ";\t")
        remedy = "separate columns by commas" if other else "name operations in it, as in gemm"
        raise InputError([Problem(name, "", f"{what}; {remedy}")])
    if problems := list(_strange(frame, name)):
        raise InputError(problems)
    if LINE not in frame.columns:
        frame = frame.assign(**{LINE: np.arange(first, first + len(frame))})
    if "rows" in frame.columns:
        frame = frame.assign(rows=_lists(frame["rows"]))
    return frame


def _strange(frame: pd.DataFrame, name: str) -> Iterator[Problem]:
    """Documented columns of a type that none can have."""
    for column in (one for one in COLUMNS if one != "rows" and one in frame.columns):
        kind = infer_dtype(frame[column], skipna=True)
        if kind not in (PLAIN if column in (*TEXTS, *FLAGS) else NUMERIC):
            yield Problem(name, "", f"the column '{column}' holds {kind} values")


def _read_csv(path: Path) -> pd.DataFrame:
    types = {"version": str, "rows": str}
    text = decoded(read_file(path), str(path))
    return pd.read_csv(StringIO(text), dtype=types, skip_blank_lines=False, low_memory=False)


def _lists(rows: pd.Series[Any]) -> pd.Series[Any]:
    """``rows`` of each expert as lists where they are texts, as CSV keeps them."""
    return pd.Series([_numbers(one) for one in rows], rows.index, dtype=object)


def _numbers(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return [int(number) for number in text.strip("[] ").replace(",", " ").split()]
    except ValueError:
        return text


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table; columns in the documented order, others after them, empty ones left out."""
    known = [name for name in COLUMNS if name in frame.columns and frame[name].notna().any()]
    others = [name for name in frame.columns if name not in COLUMNS]
    write_all(frame[[*known, *others]], path)


def write_all(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as it is, all but its lines; InputError for another suffix."""
    path = Path(path)
    table = frame.drop(columns=LINE, errors="ignore")
    if path.suffix not in SUFFIXES:
        raise InputError(f"--out '{path}' is neither of {', '.join(SUFFIXES)}")
    if "rows" in table.columns and path.suffix == ".csv":
        texts = pd.Series([_as_text(rows) for rows in table["rows"]], table.index, dtype=object)
        table = table.assign(rows=texts)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False, compression="zstd")
        else:
            table.to_csv(temporary, index=False)


def _as_text(rows: Any) -> str | None:
    return " ".join(map(str, rows)) if hasattr(rows, "__len__") else None


def ops_of(frame: pd.DataFrame) -> dict[str, int]:
    """Rows of each op, in the order of ``SHAPES``."""
    counts = frame["op"].value_counts()
    return {op: int(counts[op]) for op in SHAPES if op in counts.index}
