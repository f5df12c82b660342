"""The folder of a reproduced system: tables, figures, page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moesim.config.files import write_whole
from moesim.report.systems.figures import save
from moesim.report.systems.page import page
from moesim.report.systems.tables import given_table, laws_table, points_table
from moesim.reproduce.systems.run import Found


def write_system(found: Found, folder: Path) -> None:
    """Write ``points.csv``, ``laws.csv``, ``published.csv``, ``figures`` and ``report.md``."""
    tables = {
        "points": points_table(found),
        "laws": laws_table(found),
        "published": given_table(found),
    }
    for name, table in tables.items():
        _write_csv(table, folder / f"{name}.csv")
    save(found, folder / "figures")
    write_whole(folder / "report.md", page(found, "figures"))


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_csv(index=False, lineterminator="\n", float_format="%.9g"))
