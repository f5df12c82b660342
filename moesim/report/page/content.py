"""What a page says, in the order in which it says it; how it looks is the template's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Fact = tuple[str, str]
"""A name and its value, in words."""


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: its heading, the ``axis`` that it is (None: a number), and what
    is in each row, as text and, where there is one, as a number in the heading's unit, to sort, to
    draw and to compare with what a reader types; ``order``: an axis' values as filters and charts
    have them [as they come]; ``picked``: the one whose box alone is ticked at first [all are].
    """

    heading: str
    texts: Sequence[str]
    values: Sequence[float | None] | None = None
    axis: str | None = None
    order: Sequence[str] = ()
    picked: str | None = None


@dataclass(frozen=True)
class Board:
    """Columns of equal length; ``best``: the row of the best point, if there is one, and what it
    is (``best_is``); ``notes`` below it; rows that know the future, ``ahead``.
    """

    columns: Sequence[Column]
    best: int | None = None
    notes: Sequence[str] = ()
    best_is: str = "the best"
    ahead: Collection[int] = ()

    @property
    def length(self) -> int:
        """How many rows there are."""
        return len(self.columns[0].texts) if self.columns else 0

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """What is in each row, as text."""
        return list(zip(*(one.texts for one in self.columns), strict=True))


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, and what it shows in words."""

    title: str
    svg: str


@dataclass(frozen=True)
class Page:
    """Everything on a page. ``verdict``: sentences, the first the answer; ``command``: by which an
    engine runs the best ("": none does), and what it leaves open, or why; ``shares`` of the time,
    what ``helps``, ``upgrades`` that were tried, ``ledger`` of memory of the best or only run, its
    ``timeline``, further ``facts``, and what these are of; ``trust``: what the prices rest
    on, and assumptions; ``tables``: further ones by title; ``experiment``: the file as text;
    ``made``: versions and digests; ``chooser``: what a
    visitor picks from (``chooser_of``); ``reloads_s``: how often a
    page of what goes on loads itself again.
    """

    kind: str
    title: str
    setting: str
    verdict: Sequence[str]
    command: Sequence[str] = ()
    board: Board | None = None
    board_of: str = "Leaderboard"
    pictures: Sequence[Picture] = ()
    timeline: Sequence[Picture] = ()
    timeline_notes: Sequence[str] = ()
    shares: Mapping[str, float] | None = None
    helps: Sequence[str] = ()
    upgrades: Board | None = None
    ledger: Sequence[Fact] = ()
    ledger_of: str = "The fullest GPU at its peak"
    tables: Sequence[tuple[str, Board]] = ()
    facts: Sequence[Fact] = ()
    facts_of: str = "Numbers"
    trust: Sequence[str] = ()
    experiment: str = ""
    made: Sequence[Fact] = ()
    chooser: Mapping[str, Any] | None = None
    reloads_s: int | None = None

    @property
    def points(self) -> list[dict[str, Any]]:
        """The rows of the board with numbers, for a chart: columns by place, ``c0``, ``c1``, ..."""
        if self.board is None:
            return []
        columns = self.board.columns
        rows = range(self.board.length)
        return [
            {
                f"c{place}": one.texts[row] if one.values is None else one.values[row]
                for place, one in enumerate(columns)
            }
            for row in rows
        ]
