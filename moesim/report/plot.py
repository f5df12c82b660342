"""Draw figures of a result folder: a table and pictures each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.text import Text

from moesim.config.arguments import check_choice, check_list
from moesim.config.document import Document, Mark
from moesim.config.errors import InputError, Problem
from moesim.config.files import write_whole
from moesim.config.validation import validate
from moesim.config.warn import Warn, as_warning
from moesim.report.figures import Figure, registry
from moesim.report.style import METADATA, RC, SMALL, save_figure
from moesim.results import is_result
from moesim.results.folder import read_experiment
from moesim.results.result import setting_in_words
from moesim.results.shape import Configuration, check_shape
from moesim.sweep.found import read_sweep
from moesim.sweep.identity import is_sweep, read_sweep_file

Kind = str | Mapping[str, Any] | Figure
"""A figure by its name, with its parameters as in an experiment (``{kind: ..., metric: ...}``), or
made.
"""

FORMATS = tuple(METADATA)
LEAST_INCHES, MOST_INCHES = 1.0, 50.0


def plot(
    folder: Path | str,
    figures: Sequence[Kind] = (),
    *,
    out: Path | str | None = None,
    formats: Sequence[str] = ("png", "svg"),
    size: tuple[float, float] | str | None = None,
    allow_drops: bool = False,
    warn: Warn = as_warning,
) -> list[Path]:
    """Draw figures of the run or the sweep in ``folder`` and return the files written.

    ``figures`` default to the experiment's ``figures`` (of a run, which may be the base point of a
    sweep, to those of them that apply), and without these to all that apply and need no parameter;
    ``out`` defaults to ``figures`` in ``folder``. ``formats``: of ``FORMATS``; ``size``: of the
    whole picture in inches, as ``(3.3, 2.5)`` or ``3.3x2.5``; ``allow_drops``: let points that drop
    choices be the best. ``warn`` is told of each figure that does not apply. Raises an InputError
    for a figure that is not known, and where none can be drawn.
    """
    source = Path(folder)
    target = Path(out) if out else source / "figures"
    check_list("--figure", figures)
    check_formats(formats)
    inches = None if size is None else parse_size(size)
    asked = [figure_of(kind) for kind in figures or named_figures(source)]
    quiet = not figures and not is_sweep(source)
    tables, problems = prepared(source, [_allowing(one, allow_drops) for one in asked])
    if not tables and (quiet or not asked):
        every = [one() for one in registry.components.values() if one.is_default()]
        tables, problems = prepared(source, [_allowing(one, allow_drops) for one in every])
        quiet = True
    written, setting = [], setting_of(source) if tables else ""
    for figure, table in tables:
        try:
            whole = table.assign(setting=setting)
            written += save(figure, whole, target, formats=formats, size=inches)
        except InputError as error:
            problems += error.problems
    if not written:
        raise InputError(dict.fromkeys(problems))
    for problem in () if quiet else dict.fromkeys(problems):
        warn(f"warning: not drawn: {problem}")
    return written


def check_formats(formats: Sequence[str]) -> None:
    """An InputError where one is not of ``FORMATS``."""
    check_list("--format", formats)
    for one in formats:
        check_choice("--format", one, FORMATS)


def parse_size(size: tuple[float, float] | str) -> tuple[float, float]:
    """``3.3x2.5``, or the two numbers, as width and height in inches; an InputError for anything
    else.
    """
    text = (
        size
        if isinstance(size, str)
        else "x".join(map(str, size if isinstance(size, Iterable) else [size]))
    )
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)", text)
    sides = tuple(float(side) for side in found.groups()) if found else ()
    if len(sides) == 2 and all(LEAST_INCHES <= side <= MOST_INCHES for side in sides):  # noqa: PLR2004
        return sides[0], sides[1]
    what = f"'{text}' is no size; write WIDTHxHEIGHT in inches, each from 1 to 50, as in 3.3x2.5"
    raise InputError([Problem("--size", "", what)])


def figure_of(kind: Kind) -> Figure:
    """The figure that ``kind`` names, with its parameters; an InputError for one that is unknown or
    lacks some.
    """
    if isinstance(kind, Figure):
        return kind
    if isinstance(kind, str):
        return validate(Document({}, Mark(kind)), registry.get(kind, "--figure"))
    if not isinstance(kind, Mapping):
        what = f"{kind!r} is no figure; write its name, or its 'kind' and parameters"
        raise InputError([Problem("--figure", "", what)])
    given = dict(kind)
    cls = registry.get(str(given.pop("kind", "")))
    return validate(Document(given, Mark(cls.kind)), cls)


def _allowing(figure: Figure, allow_drops: bool) -> Figure:
    known = allow_drops and "allow_drops" in type(figure).model_fields
    return figure.model_copy(update={"allow_drops": True}) if known else figure


def setting_of(folder: Path) -> str:
    """Model, card, trace and batch of the result in ``folder``, but for what a sweep varies."""
    if is_sweep(folder):
        sweep = read_sweep(folder)
        return setting_in_words(sweep.experiment, without=sweep.varying)
    return setting_in_words(read_experiment(folder))


def named_figures(folder: Path) -> list[Kind]:
    """The ``figures`` of the experiment in ``folder``."""
    if is_sweep(folder):
        experiment = read_sweep_file(folder).get("experiment", {})
    elif is_result(folder):
        experiment = read_experiment(folder)
    else:
        raise InputError([Problem(str(folder), "", _neither(folder))])
    check_shape(experiment, Configuration, str(folder))
    return list(experiment.get("figures") or [])


def _neither(folder: Path) -> str:
    """What to say of ``folder``; 'moesim advise' writes sweeps into folders of its own."""
    what = "holds neither a run nor a sweep"
    if below := [str(one) for one in sorted(folder.glob("*")) if is_sweep(one)]:
        return f"{what} itself; name one of the sweeps in it: {', '.join(below)}"
    return f"{what}; 'moesim run' and 'moesim sweep' write them"


def prepared(
    folder: Path, figures: Sequence[Figure]
) -> tuple[list[tuple[Figure, pd.DataFrame]], list[Problem]]:
    """The tables of those of ``figures`` that ``folder`` has the data for, and what the others
    lack.
    """
    tables: list[tuple[Figure, pd.DataFrame]] = []
    problems: list[Problem] = []
    for figure in figures:
        try:
            tables.append((figure, figure.prepare(folder)))
        except InputError as error:
            problems += error.problems
    return tables, problems


def save(
    figure: Figure,
    table: pd.DataFrame,
    target: Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
    size: tuple[float, float] | None = None,
) -> list[Path]:
    """Write ``table`` as CSV and what it shows in ``formats``; the same table, the same bytes."""
    paths = [target / f"{figure.stem}.{suffix}" for suffix in ("csv", *formats)]
    write_whole(paths[0], table.to_csv(index=False, lineterminator="\n"))
    with drawn(figure, table, size=size) as sheet:
        for path in paths[1:]:
            save_figure(sheet, path)
    return paths


@contextmanager
def drawn(
    figure: Figure, table: pd.DataFrame, *, size: tuple[float, float] | None = None
) -> Iterator[Sheet]:
    """``table`` drawn on a sheet of its own, under the settings with which it is to be saved: in an
    area of the figure's own size, or in as much of ``size`` as its labels leave. What its column
    ``setting`` says stands below the title.
    """
    own = figure.size(table)
    look: dict[str, Any] = {**RC, **(SMALL if size and size[0] < own[0] else {})}
    with rc_context(look):  # type: ignore[arg-type]
        inner = size or own
        sheet = _sheet(figure, table, inner, inner[0])
        for _ in range(ROUNDS if size else 0):
            inner = _left(sheet, inner, size or own)
            sheet = _sheet(figure, table, inner, inner[0] if size is None else size[0])
        yield sheet


def _shrink(sheet: Sheet) -> None:
    """Bring what has a size of its own to the small ones."""
    most = float(SMALL["font.size"])
    for text in sheet.findobj(Text):
        if isinstance(text, Text):
            text.set_fontsize(min(most, float(text.get_fontsize())))
    for line in sheet.findobj(Line2D):
        if isinstance(line, Line2D):
            line.set_linewidth(min(line.get_linewidth(), float(SMALL["lines.linewidth"])))
            line.set_markersize(min(line.get_markersize(), float(SMALL["lines.markersize"])))


ROUNDS = 3
"""Drawings until the labels have the place that they need: their number depends on the area."""


def _left(
    sheet: Sheet, inner: tuple[float, float], size: tuple[float, float]
) -> tuple[float, float]:
    """The area of the axes that makes the picture ``size``; an InputError where nothing is left."""
    whole = sheet.get_tightbbox(sheet.canvas.get_renderer())  # type: ignore[attr-defined]
    pad = 2 * float(rcParams["savefig.pad_inches"])
    taken = (whole.width + pad - inner[0], whole.height + pad - inner[1])
    left = (size[0] - taken[0], size[1] - taken[1])
    if min(left) < LEAST_AREA:
        least = [max(side, labels + LEAST_AREA) for side, labels in zip(size, taken, strict=True)]
        needed = "x".join(f"{math.ceil(10 * side) / 10:g}" for side in least)
        what = f"{size[0]:g}x{size[1]:g} leaves no room beside the labels; take {needed} or more"
        raise InputError([Problem("--size", "", what)])
    return left


LEAST_AREA = 0.6
"""Inches of the axes below which nothing can be read."""


def _sheet(figure: Figure, table: pd.DataFrame, area: tuple[float, float], width: float) -> Sheet:
    """``table`` on axes of ``area``; what stands below the title is at most ``width`` wide."""
    told = table["setting"].iloc[0] if "setting" in table else ""
    setting = told if isinstance(told, str) else ""  # an empty cell of a CSV is none
    sheet = Sheet(figsize=area)
    FigureCanvasAgg(sheet)
    axes = sheet.add_axes((0.0, 0.0, 1.0, 1.0))
    figure.draw(table, axes)
    title = axes.get_title(loc="left")
    below = "\n".join(wrap(setting, int(width * CHARACTERS_PER_INCH)))
    for text in axes.get_children() if setting else ():
        if isinstance(text, Text) and title and text.get_text() == title:
            text.set_text(f"{title}\n{below}")
    if rcParams["font.size"] < RC["font.size"]:
        _shrink(sheet)
    return sheet


CHARACTERS_PER_INCH = 12
