"""The table of a sweep: a row a point, its axes, its status, its numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import replacing, write_whole
from moesim.results.folder import read_table, write_table
from moesim.results.renamed import check_names
from moesim.results.store import read_log
from moesim.sweep.identity import is_sweep, read_axes

PARQUET, CSV = "points.parquet", "points.csv"
TEXTS = (
    "status", "reason", "name", "engine", "engine_reason", "execution", "storage_path",
    "block", "of",
    "slots_by_layer", "stages", "factors", "model_notes", "host_notes", "energy_notes",
    "speculation_notes", "routing_notes", "placement_notes", "routing_by_layer",
    "gate_weight_shares_by_layer", "quality_notes", "cost_notes",
)  # fmt: skip
"""What a summary's columns may end with that hold texts."""
MEASURED = ("engine_wall_s",)
"""What is another number each time: without it the same sweep gives the same table."""


def points_table(folder: Path) -> pd.DataFrame:
    """One row a point in the order of the axes.

    Columns: the axes by their paths, ``status``, ``reason``, then the summaries' keys (nested ones
    joined by dots) but ``MEASURED``; what a point does not have is missing.
    """
    summaries = [summary_of(folder, n) for n in range(count(folder))]
    kept = [{key: s[key] for key in s if key not in MEASURED} for s in summaries]
    return tabulate(read_axes(folder), kept)


def count(folder: Path) -> int:
    """The number of points of the sweep in ``folder``."""
    return len(read_axes(folder))


def summary_of(folder: Path, number: int) -> dict[str, Any]:
    """The summary of point ``number``."""
    return read_log(folder)[number].summary


def tabulate(
    axes: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """The table of points with these axes and summaries, see ``points_table``."""
    head = [{path: scalar(value) for path, value in point.items()} for point in axes]
    state = [{"status": s["status"], "reason": s.get("reason")} for s in summaries]
    rest = [dict(flatten(s)) for s in summaries]
    nested = {key for s in summaries for key, entry in s.items() if isinstance(entry, Mapping)}
    columns = dict.fromkeys(
        key for row in (*head, *state, *rest) for key in row if key not in nested
    )
    rows = [{**r, **s, **h} for h, s, r in zip(head, state, rest, strict=True)]
    texts = {name for name in columns if may_be_text(name) or any(name in row for row in head)}
    return pd.DataFrame(
        {name: column([row.get(name) for row in rows], text=name in texts) for name in columns}
    )


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings with their keys joined by dots."""
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from flatten(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", scalar(entry)


def scalar(value: Any) -> Any:
    """``value`` as one cell: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def column(values: Sequence[Any], *, text: bool) -> ExtensionArray | np.ndarray[Any, Any]:
    """A column whose whole numbers stay whole where some are missing. ``text``: it may hold texts;
    else it is one of numbers, also where all are missing. It has no index, by which pandas would
    bring hundreds of them together.
    """
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds and kinds <= {bool}:
        return pd.array(values, dtype="boolean")
    if kinds and kinds <= {int}:
        return pd.array(values, dtype="Int64")
    if kinds <= {int, float} and (kinds or not text):
        return np.array([math.nan if v is None else float(v) for v in values], np.float64)
    texts = pd.Series([None if v is None else str(v) for v in values], dtype="str")
    array: ExtensionArray = texts.array
    return array


def write_points(folder: Path, table: pd.DataFrame) -> None:
    """Write ``points.parquet`` and ``points.csv``, each in one go."""
    with replacing(folder / PARQUET) as temporary:
        write_table(table, temporary)
    write_whole(folder / CSV, table.to_csv(index=False, lineterminator="\n"))


def read_points(folder: Path | str) -> pd.DataFrame:
    """The table of the finished sweep in ``folder``; an InputError where there is none."""
    source = Path(folder)
    if not is_sweep(source):
        what = "holds no sweep; 'moesim sweep FILE --out DIR' writes one"
        raise InputError([Problem(str(source), "", what)])
    if not (source / PARQUET).is_file():
        what = "the sweep is not finished; start the same 'moesim sweep' again, it goes on"
        raise InputError([Problem(str(source), "", what)])
    table = read_table(source / PARQUET)
    check_names(str(source / PARQUET), table.columns)
    axes = {path for point in read_axes(source) for path in point}
    if "status" not in table.columns or len(table) != count(source):
        wrong = "has other rows or columns"
    elif not (texts := _no_numbers(table, axes)):
        return table
    else:
        wrong = f"has the column '{texts[0]}' of what are no numbers"
    what = f"{wrong} than a sweep's table; start the same 'moesim sweep' again"
    raise InputError([Problem(str(source / PARQUET), "", what)])


def _no_numbers(table: pd.DataFrame, axes: Collection[str]) -> list[str]:
    """The columns that hold something else, but for the ``axes`` and those that may. Types come
    first: a table has hundreds of columns, and to take one out of it is slow.
    """
    kinds = [(str(name), kind) for name, kind in table.dtypes.items() if name not in axes]
    others = [name for name, kind in kinds if not pd.api.types.is_numeric_dtype(kind)]
    return [n for n in others if not may_be_text(n) and not table[n].isna().all()]


def may_be_text(name: str) -> bool:
    """Whether the summaries' column ``name`` holds texts."""
    return name.rpartition(".")[2] in TEXTS
