"""The reference study, run anew, against the table that its page prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from verification.check import Measured, check

PAGE = Path(__file__).parents[1] / "docs" / "reference-study.md"
ROW = re.compile(r"^\| `([a-z_]+\.[a-z_.0-9]+)` \| ([^|]*) \| ([^|]*) \|", re.MULTILINE)
"""Its first columns; those beside them are given, not simulated."""


def printed(row: pd.Series) -> tuple[str, str]:
    """``simulated`` and its range, as the page has them."""
    low, high = f"{row['low']:.3g}", f"{row['high']:.3g}"
    return f"{row['simulated']:.3g}", low if low == high else f"{low} to {high}"


@check(
    "docs/reference-study.md prints what `moesim reproduce reference-study` gives",
    tolerance=0,
    why="three digits of a simulation without chance",
    unit="rows that differ or are missing",
)
def study_is_its_page() -> Measured:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "study"
        command = [sys.executable, "-m", "moesim.cli.main", "reproduce", "reference-study"]
        subprocess.run(  # noqa: S603 (itself)
            [*command, "--out", str(out), "-j", "2"], check=True, stdout=subprocess.DEVNULL
        )
        table = pd.read_csv(out / "table.csv").set_index("id")
    found = {str(name): printed(row) for name, row in table.iterrows()}
    page = {name: (simulated, span) for name, simulated, span in ROW.findall(PAGE.read_text())}
    wrong = sorted(name for name in found.keys() | page.keys() if found.get(name) != page.get(name))
    worst = "; ".join(f"{one}: {page.get(one)}, now {found.get(one)}" for one in wrong[:3])
    return Measured(len(wrong), f"of {len(found)}" + (f"; {worst}" if worst else ""))
