"""Studies of several runs say what they found in ``report.json``, beside their tables and figures;
a page is made of these.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file
from moesim.config.json_text import read_object
from moesim.report.amounts import heading, number
from moesim.report.page.content import Board, Column, Page, Picture
from moesim.results.files import UNREADABLE, first_line, write_json
from moesim.results.overwrite import TOLD
from moesim.results.shape import Shape, check_shape

Inside = Annotated[str, Field(pattern=r"^([\w-]+/)?[\w-]+(\.[\w-]+)+$")]
"""A file of the folder, or of one in it."""


class ToldTable(Shape):
    """A CSV file: what it is called; ``columns`` to show [all]; ``axes``, the columns to filter by;
    the row of the ``best``.
    """

    title: str
    file: Inside
    columns: list[str] = Field(default_factory=list)
    axes: list[str] = Field(default_factory=list)
    best: int | None = None


class Told(Shape):
    """What a page says of a study, ``kind``: which; ``board``: the table with filters and a chart;
    ``figures``: SVG files with a title each.
    """

    kind: str
    title: str
    setting: str = ""
    verdict: Annotated[list[str], Field(min_length=1)]
    board: ToldTable | None = None
    tables: list[ToldTable] = Field(default_factory=list)
    figures: dict[Inside, str] = Field(default_factory=dict)
    trust: list[str] = Field(default_factory=list)
    experiment: str = ""


def write_told(told: Told, folder: Path) -> Path:
    """Write it beside the files that it names."""
    write_json(folder / TOLD, told.model_dump())
    return folder / TOLD


def is_told(folder: Path) -> bool:
    """Whether ``folder`` holds such a study."""
    return (folder / TOLD).is_file()


def page_of_told(folder: Path) -> Page:
    """What the study in ``folder`` says; an InputError where a file of it is damaged or gone."""
    content = read_object(folder / TOLD)
    check_shape(content, Told, str(folder / TOLD))
    told = Told.model_validate(content)
    return Page(
        kind=told.kind,
        title=told.title,
        setting=told.setting,
        verdict=told.verdict,
        board=None if told.board is None else _board(folder, told.board),
        board_of=told.board.title if told.board else "",
        tables=[(one.title, _board(folder, one)) for one in told.tables],
        pictures=list(_pictures(folder, told)),
        trust=told.trust,
        experiment=told.experiment,
    )


def _board(folder: Path, one: ToldTable) -> Board:
    path = folder / one.file
    try:
        table = pd.read_csv(io.BytesIO(read_file(path)), keep_default_na=False, na_values=[""])
        table = table[one.columns or list(table.columns)]
    except UNREADABLE as error:
        what = f"is no table of this study ({first_line(error)})"
        raise InputError([Problem(str(path), "", what)]) from None
    known = one.best is not None and 0 <= one.best < len(table)
    return board_of_frame(table, one.axes, best=one.best if known else None)


def board_of_frame(table: pd.DataFrame, axes: list[str], *, best: int | None = None) -> Board:
    """Any table as it is shown: numbers to the right, all others as text."""
    columns = [_column(str(name), table[name], axes) for name in table.columns]
    return Board(columns, best)


def _column(name: str, values: pd.Series[Any], axes: list[str]) -> Column:
    axis = name if name in axes else None
    plain = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if axis is None and plain:
        numbers = [None if pd.isna(x) else float(x) for x in values]
        return Column(heading(name), [number(x) for x in numbers], numbers)
    return Column(heading(name), [_text(value) for value in values], axis=axis)


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return "-" if pd.isna(value) else str(value)


def _pictures(folder: Path, told: Told) -> Iterator[Picture]:
    for file, title in told.figures.items():
        yield Picture(title, read_file(folder / file).decode("utf-8", errors="replace"))
