"""Tables of the documentation that say which command gives them are what it gives."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from verification import tables
from verification.tables import PAGES, TESTS, Table, cells, differences, write

BEFORE_AND_TABLE = re.compile(r"^([^|\n][^\n]*)\n+((?:^\|[^\n]*\n)+)", re.MULTILINE)
NUMBER = re.compile(r"[+-]?[\d.,]+( ?(%|ms|GB|GiB|s|x|M|µs|us|\*).*)?")
HERE = [
    pytest.param(table, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, table in enumerate(tables.tables(page.read_text(encoding="utf-8")))
    if table.judge == TESTS
]
PAGE = """\
Speeds:

<!-- judged by tests
run: moesim sweep some.yaml
rows: 2 0
columns:
  speed: speed * 1e3
  both: 100 * share.a, share.a + 1 @ :2
  stall: stall
-->

| what | speed | both | stall |
|---|---|---|---|
| one | 3,000 | .25 and 3 % | |
| two | +1.5 | .25 % | none |

The rest.
"""
TODAY = """\
| one | 7,250 | 50.00 and 1 % | 2 |
| two | +1000.0 | .00 % 1.25 | none |
"""


@pytest.mark.parametrize("table", HERE)
def test_a_table_is_what_its_command_gives(table: Table) -> None:
    assert differences(table) == []


def test_numbers_of_today_are_written_as_the_old_ones_were(tmp_path, monkeypatch) -> None:
    found = {"speed": [1, 2, 7.25], "share.a": [0, 0.25, 0.5], "stall": [None, 1, 2]}
    monkeypatch.setattr(tables, "points", lambda commands: pd.DataFrame(found))
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert len(write(page)) == 2
    assert page.read_text().endswith(TODAY + "\nThe rest.\n")
    assert write(page) == []


def is_of_numbers(table: str) -> bool:
    """Whether most of what stands beside the first column are numbers."""
    beside = [cell for line in table.splitlines()[2:] for cell in cells(line)[1:] if cell]
    return 2 * sum(bool(NUMBER.fullmatch(cell)) for cell in beside) >= max(len(beside), 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_table_of_numbers_says_where_it_is_from(page: Path) -> None:
    found = BEFORE_AND_TABLE.findall(page.read_text(encoding="utf-8"))
    silent = [table for before, table in found if not before.endswith("-->")]
    assert [table.splitlines()[0] for table in silent if is_of_numbers(table)] == []
