"""Tables of the documentation, against the commands that their pages say they are from.

A comment before a table names the commands and, by its heads, what stands in a column: keys of
``points.csv`` (of ``summary.json`` after ``moesim run``), and arithmetic on them.

    <!-- judged by make verify
    run: moesim sweep experiments/prefetch.yaml
    rows: 0 3:                              # of the points, in this order; all, if left out
    columns:
      tokens/s: output_throughput
      used of started: prefetches_used, prefetches_started
      with prefetch: output_throughput @ 1::2    # of other points than the rows'
    -->

``judged by tests`` is for what takes a few seconds. ``python -m verification.tables PAGE ...``
writes the numbers of today. A table that no command gives says where it is from: ``<!-- from: ...
-->``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict

from verification.check import Measured, check

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TESTS, VERIFY = "tests", "make verify"
TABLE = re.compile(
    rf"^<!-- judged by ({TESTS}|{VERIFY})\n(.*?)-->\n+((?:^\|[^\n]*\n)+)", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)")
NAME = re.compile(r"(?<![\w.])[A-Za-z_][\w.]*")
WORDS = {"": 0.0, "none": 0.0, "all": 100.0}
"""What a cell without a number says: a value that is not there counts as 0."""


class Source(BaseModel):
    """What the comment before a table says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str | tuple[str, ...]
    rows: str = ":"
    columns: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table of a page: ``rows`` are its lines below the heads, ``start`` is where they begin in
    the page's text.
    """

    judge: str
    source: Source
    heads: tuple[str, ...]
    rows: tuple[str, ...]
    start: int


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> Iterator[Table]:
    """The tables of a page's ``text`` that name their commands."""
    for found in TABLE.finditer(text):
        head, dashes, *rows = found[3].splitlines(keepends=True)
        source = Source.model_validate(yaml.safe_load(found[2]))
        start = found.start(3) + len(head) + len(dashes)
        yield Table(found[1], source, tuple(cells(head)), tuple(rows), start)


@cache
def points(commands: tuple[str, ...]) -> pd.DataFrame:
    """A row for each point of ``commands``, which run in an empty folder beside the examples."""
    import pandas as pd

    from moesim.cli.main import main
    from moesim.results import read_result
    from moesim.sweep.found import read_sweep

    found = []
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        shutil.copytree(ROOT / "experiments", "experiments")
        Path("traces").symlink_to(ROOT / "traces")
        for number, command in enumerate(commands):
            _, kind, *words = shlex.split(command)
            out = Path(f"out-{number}")
            code = main([kind, *words, *(["--out", str(out)] if kind in ("run", "sweep") else [])])
            assert code == 0, command
            if kind == "sweep":
                found.append(read_sweep(out).table)
            elif kind == "run":
                found.append(pd.json_normalize(dict(read_result(out).summary)))
    return pd.concat(found, ignore_index=True)


def picked(values: list[float], rows: str) -> list[float]:
    """Of ``values`` those that ``rows`` names: numbers and slices, with blanks between."""
    found: list[float] = []
    for part in rows.split():
        if ":" in part:
            found += values[slice(*(int(one) if one else None for one in part.split(":")))]
        else:
            found.append(values[int(part)])
    return found


def evaluated(expression: str, frame: pd.DataFrame, rows: str) -> list[float]:
    """``expression`` of ``frame``'s columns, whose names may have dots; what is not there is 0."""
    import pandas as pd

    formula, _, others = expression.partition("@")
    names = {name: f"c{i}" for i, name in enumerate(dict.fromkeys(NAME.findall(formula)))}
    columns = {short: pd.to_numeric(frame[name]).astype(float) for name, short in names.items()}
    value = pd.eval(NAME.sub(lambda name: names[name[0]], formula), local_dict=columns)
    return picked(pd.Series(value).fillna(0).tolist(), others or rows)


def printed(value: float, like: str) -> str:
    """``value`` with as many digits behind the point as ``like`` has, signs and commas as there."""
    digits = len(like.partition(".")[2])
    comma = "," if "," in like or len(like) < len("1000") else ""
    text = f"{value:{'+' if like.startswith('+') else ''}{comma}.{digits}f}"
    bare = like.lstrip("+-").startswith(".")
    return re.sub(r"^([+-]?)0\.", r"\1.", text) if bare else text


def cell_today(cell: str, values: Sequence[float]) -> str:
    """``cell`` with ``values`` in place of its numbers; those it has no number for come behind."""
    if all(value == WORDS.get(cell) for value in values):
        return cell
    left = [value for value in values if value or cell not in WORDS]
    text = NUMBER.sub(lambda old: printed(left.pop(0), old[0]) if left else "?", cell)
    return " ".join([text, *(f"{value:g}" for value in left)]).strip()


def rows_today(table: Table) -> list[str]:
    """The lines of ``table`` with the numbers that its commands give."""
    run = table.source.run
    frame = points((run,) if isinstance(run, str) else run)
    lines = [cells(line) for line in table.rows]
    for head, expressions in table.source.columns.items():
        column = table.heads.index(head)
        found = [evaluated(one, frame, table.source.rows) for one in expressions.split(",")]
        for line, values in zip(lines, zip(*found, strict=True), strict=True):
            line[column] = cell_today(line[column], values)
    return [
        old if line == cells(old) else " ".join(f"| {cell}".rstrip() for cell in line) + " |\n"
        for old, line in zip(table.rows, lines, strict=True)
    ]


def differences(table: Table) -> list[str]:
    """The lines of ``table`` that are not those of today."""
    both = zip(table.rows, rows_today(table), strict=True)
    return [f"{old.strip()} now {new.strip()}" for old, new in both if old != new]


def write(page: Path) -> list[str]:
    """Write the numbers of today into ``page``; what was different."""
    text, found = page.read_text(encoding="utf-8"), []
    for table in reversed(list(tables(text))):
        found += differences(table)
        end = table.start + len("".join(table.rows))
        text = text[: table.start] + "".join(rows_today(table)) + text[end:]
    page.write_text(text, encoding="utf-8")
    return found


@check(
    "Tables of the documentation are what the commands give that they name",
    tolerance=0,
    why="simulations without chance, printed in full",
    unit="rows that differ",
)
def tables_are_their_commands() -> Measured:
    wrong: list[str] = []
    many = 0
    for page in PAGES:
        for table in tables(page.read_text(encoding="utf-8")):
            many += 1
            wrong += [f"{page.name}: {one}" for one in differences(table)]
    return Measured(len(wrong), f"of {many} tables" + "".join(f"\n       {one}" for one in wrong))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print("\n".join([name, *write(Path(name))]))
