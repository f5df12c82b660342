"""Runs of an engine that offloads experts, as its user measured them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.text import decoded
from moesim.results.files import first_line

COLUMNS = ("slots", "hits", "tokens_per_s")
RESIDENT = "all"
"""What ``slots`` says of the run without offloading."""
NEEDED = 2
FIRST_LINE = 2


@dataclass(frozen=True)
class Rows:
    """Runs of batch 1: ``table`` has ``slots`` (a name), ``hits`` (a ratio), ``tokens_per_s`` and
    ``fitted`` (whether the run is for the fit, else for judging it).

    ``resident_ns``: nanoseconds a token of the run with all experts on the GPU, None without one.
    """

    table: pd.DataFrame
    resident_ns: float | None


def read_rows(path: Path, fitted: Sequence[str]) -> Rows:
    """The runs in the CSV file ``path``, of which those with these ``slots`` (none: all) are
    fitted.

    Raises an InputError with every row that cannot be, and where too few are left to fit.
    """
    table = _read(path)
    if problems := [Problem(f"{path}:{line}", "", what) for line, what in _mistakes(table)]:
        raise InputError(problems)
    resident = table["slots"] == RESIDENT
    speed = table.loc[resident, "tokens_per_s"]
    offloaded = table[~resident].reset_index(drop=True)
    names = list(offloaded["slots"])
    for name in fitted:
        if name not in names:
            what = f"'{name}' is not among the slots of {path}; {nearest(name, names)}"
            raise InputError([Problem("--fit", "", what)])
    offloaded["fitted"] = offloaded["slots"].isin(fitted) if fitted else True
    _check_enough(path, offloaded[offloaded["fitted"]])
    return Rows(offloaded, 1e9 / float(speed.iloc[0]) if len(speed) else None)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError([Problem(str(path), "", "is not a file; name a CSV table of runs")])
    try:
        text = StringIO(decoded(path.read_bytes(), str(path)))
        table = pd.read_csv(text, dtype=str, skip_blank_lines=False, keep_default_na=False)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(
            [Problem(str(path), "", f"is no CSV table: {first_line(error)}")]
        ) from None
    for name in COLUMNS:
        if name not in table.columns:
            what = f"has no column '{name}'; it needs {', '.join(COLUMNS)}"
            raise InputError([Problem(f"{path}:1", "", what)])
    table["slots"] = table["slots"].str.strip()
    for name in COLUMNS[1:]:
        table[f"{name}_text"], table[name] = table[name], pd.to_numeric(table[name], "coerce")
    return table


def _mistakes(table: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """The line and the mistake of every bad row."""
    seen: set[str] = set()
    for place, row in enumerate(table.to_dict("records")):
        line, slots, hits = place + FIRST_LINE, row["slots"], row["hits"]
        if not slots or slots in seen:
            yield line, f"slots '{slots}' names no row, or a second one; give each its own"
        seen.add(slots)
        if slots != RESIDENT and not 0 <= hits <= 1:
            yield line, f"hits '{row['hits_text']}' is no ratio from 0 to 1; write .5 for 50 %"
        if not 0 < row["tokens_per_s"] < float("inf"):
            yield line, f"tokens_per_s '{row['tokens_per_s_text']}' is no number above 0"


def _check_enough(path: Path, fitted: pd.DataFrame) -> None:
    if fitted["hits"].nunique() < NEEDED:
        what = (
            f"has {fitted['hits'].nunique()} hit ratio(s) to fit; two numbers (a layer, a copy)"
            " need two rows with different hits"
        )
        raise InputError([Problem(str(path), "", what)])
