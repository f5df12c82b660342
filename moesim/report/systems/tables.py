"""What a system's runs gave, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from moesim.reproduce.systems.judge import given, laws, number
from moesim.reproduce.systems.record import Beyond
from moesim.reproduce.systems.run import Found

if TYPE_CHECKING:
    from rich.table import Table

    from moesim.reproduce.systems.record import System

HOLDS, BROKEN = "holds", "broken"
WHOLE = 1000
"""From here on numbers are written without decimals."""


def points_table(found: Found) -> pd.DataFrame:
    """All numbers of every point, a row each."""
    rows = [{"point": name, **numbers} for name, numbers in found.numbers.items()]
    return pd.DataFrame(rows)


def laws_table(found: Found) -> pd.DataFrame:
    """A row a law: what it says, the numbers, whether it holds."""
    rows = [
        {
            "law": one.law.says,
            "numbers": ", ".join(in_words(value) for value in one.numbers),
            "": HOLDS if one.holds else BROKEN,
        }
        for one in laws(found)
    ]
    return pd.DataFrame(rows, columns=["law", "numbers", ""])


def given_table(found: Found) -> pd.DataFrame:
    """A row a published number."""
    rows = [
        {
            "published": one.given.what,
            "by": one.given.source,
            "value": in_words(one.given.published),
            "simulated": in_words(one.simulated),
            "": f"{one.verdict}{_by(one.given.judged, one.given.factor)}",
            "note": one.given.note,
        }
        for one in given(found)
    ]
    return pd.DataFrame(rows, columns=["published", "by", "value", "simulated", "", "note"])


def beyond_table(found: Found, beyond: Beyond) -> pd.DataFrame:
    """The numbers of a question that the paper does not ask, a row a point."""
    rows = [
        {"point": point, **{name: _known(found, point, name) for name in beyond.of}}
        for point in beyond.at
    ]
    return pd.DataFrame(rows)


def _known(found: Found, point: str, metric: str) -> str:
    """In words; a dash where the run has no such number, as one without gate weights."""
    return in_words(number(found, point, metric)) if metric in found.numbers[point] else "-"


def _by(judged: str, factor: float) -> str:
    return {"factor": f" (within {factor:g})", "sign": " (by sign)"}.get(judged, "")


def in_words(value: float) -> str:
    """``value`` with three digits, large ones whole."""
    if value == round(value) or abs(value) >= WHOLE:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def systems_table(systems: Mapping[str, System]) -> Table:
    """For the terminal: what there is to reproduce, the reference study first."""
    from rich.table import Table

    table = Table("name", "paper", "concepts", "question", title="published systems")
    for name, one in systems.items():
        state = f"not yet: moesim lacks {one.missing}" if one.missing else one.question
        table.add_row(name, one.paper, ", ".join(one.concepts), state.strip())
    return table


def terminal_table(frame: pd.DataFrame, title: str, columns: Iterable[str]) -> Table:
    """``frame``'s ``columns`` for the terminal."""
    from rich.table import Table

    names = list(columns)
    table = Table(*names, title=title)
    for row in frame[names].itertuples(index=False):
        table.add_row(*(str(cell) for cell in row))
    return table


def markdown(frame: pd.DataFrame) -> str:
    """``frame`` as a table of a page."""
    rows = [[str(name) for name in frame.columns], ["---"] * frame.shape[1]]
    rows += [[str(cell) for cell in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
