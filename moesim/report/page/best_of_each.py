"""The best answers of a chooser, for those who read its page without scripts, or want no choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moesim.report.amounts import number
from moesim.report.page.content import Board, Column
from moesim.report.sweep.table import WHATEVER

WANTED: Mapping[str, tuple[str, int]] = {
    "tokens/s": ("fastest", -1),
    "$ a M tokens": ("cheapest", 1),
}
"""Numbers of an answer: what the one with the best is called, and how to sort for it."""


def chosen_lines(chooser: Mapping[str, Any]) -> list[str]:
    """How much there is to choose from."""
    ran = sum(row[_first(chooser)] is not None for row in chooser["rows"])
    had = [title for title, _ in chooser["had"]]
    asked = ", ".join(had[:-1]) + f" and {had[-1]}"
    total = len(chooser["rows"])
    return [f"Pick your {asked} below: {ran:,} of {total:,} combinations run."]


def best_of_each(chooser: Mapping[str, Any]) -> list[tuple[str, Board]]:
    """For each value of the first thing that one has the best answer, by each of ``WANTED``."""
    promised, speed = _whatever_promised(chooser), next(iter(WANTED))
    return [
        (f"The {best} for each {chooser['had'][0][0]}{promised}", _board(chooser, rows))
        for name, (best, sign) in WANTED.items()
        if (name != speed or chooser["by"] == speed)  # which requests do not set
        if (rows := list(_best(chooser, chooser["numbers"].index(name), sign)))
    ]


def _whatever_promised(chooser: Mapping[str, Any]) -> str:
    at = _first(chooser) + chooser["numbers"].index("good %")
    broken = any(row[at] is not None and row[at] < 100 for row in chooser["rows"])  # noqa: PLR2004
    return WHATEVER if broken else ""


def _first(chooser: Mapping[str, Any]) -> int:
    """Where the numbers of a row begin."""
    return len(chooser["had"]) + 1


def _best(chooser: Mapping[str, Any], which: int, sign: int) -> Iterator[Sequence[Any]]:
    at = _first(chooser) + which
    for value in range(len(chooser["had"][0][1])):
        rows = [r for r in chooser["rows"] if r[0] == value and r[at] is not None]
        if rows:
            yield min(rows, key=lambda row: sign * row[at])


def _board(chooser: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> Board:
    first, texts = _first(chooser), chooser["texts"]
    columns = [
        Column(title, [values[row[at]] for row in rows])
        for at, (title, values) in enumerate(chooser["had"])
    ]
    columns.append(Column("choice", [texts[row[first - 1]] for row in rows]))
    for at, name in enumerate(chooser["numbers"]):
        values = [row[first + at] for row in rows]
        if any(value is not None for value in values):
            columns.append(Column(name, [number(value) for value in values], values))
    return Board(columns)
