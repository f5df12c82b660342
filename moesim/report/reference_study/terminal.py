"""The study's table for the terminal."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table


def study_table(table: pd.DataFrame) -> Table:
    """A row an id; settings and notes are in the files."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    shown.add_column("id", no_wrap=True)
    for name in ("simulated", "low to high", "blind", "published"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        ends = f"{_number(row['low'])} to {_number(row['high'])}"
        known = (_number(row[name]) for name in ("blind", "published"))
        shown.add_row(row["id"], _number(row["simulated"]), ends, *known)
    return shown


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"
