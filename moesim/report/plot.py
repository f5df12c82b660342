"""Draw figures of a result folder: a table and pictures each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.config.arguments import check_choice, check_list
from moesim.config.checking.validation import validate
from moesim.config.document import Document, Mark
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import write_whole
from moesim.config.warn import Warn, as_warning
from moesim.report.advice.figure import advice_figures, is_advice, read_advice
from moesim.report.advice.figure import setting_of as advice_setting
from moesim.report.drawing.sheet import drawn, frame
from moesim.report.drawing.style import METADATA, save_figure
from moesim.report.figures import Figure, registry
from moesim.report.figures.base import table_of
from moesim.results import is_result
from moesim.results.folder import check_format, no_folder, read_experiment
from moesim.results.result import setting_in_words
from moesim.results.shape import Configuration, check_shape
from moesim.results.store import is_stored
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
    """Draw figures of the run, the sweep or the advice in ``folder``; the files written.

    ``figures`` default to the experiment's ``figures`` (of a run, which may be the base point of a
    sweep, to those of them that apply), and without these to all that apply and need no parameter;
    ``out`` defaults to ``figures`` in ``folder``. ``formats``: of ``FORMATS``; ``size``: of the
    whole picture in inches, as ``(3.3, 2.5)`` or ``3.3x2.5``; ``allow_drops``: let points that drop
    or skip choices be the best. ``warn`` is told of each figure that does not apply. Raises an
    InputError for a figure that is not known, and where none can be drawn.
    """
    source = Path(folder)
    target = Path(out) if out else source / "figures"
    check_list("--figure", figures)
    check_formats(formats)
    inches = None if size is None else parse_size(size)
    if is_sweep(source):
        read_sweep(source)  # one that is not finished says so once, not figure by figure
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
    if is_advice(folder):
        return advice_setting(read_advice(folder))
    if is_sweep(folder):
        sweep = read_sweep(folder)
        return setting_in_words(sweep.experiment, without=sweep.varying)
    return setting_in_words(read_experiment(folder))


def named_figures(folder: Path) -> list[Kind]:
    """The ``figures`` of the experiment in ``folder``, or those of the advice in it."""
    if is_advice(folder):
        return [*advice_figures(folder)]
    if is_sweep(folder):
        experiment = read_sweep_file(folder).get("experiment", {})
    elif is_result(folder):
        experiment = read_experiment(folder)
        if not is_stored(folder):  # a point may have a folder with figures
            check_format(folder)
    else:
        raise InputError([Problem(str(folder), "", _neither(folder))])
    check_shape(experiment, Configuration, str(folder))
    return list(experiment.get("figures") or [])


def _neither(folder: Path) -> str:
    """What to say of ``folder``; 'moesim advise' writes sweeps into folders of its own."""
    what = "holds neither a run nor a sweep" if folder.is_dir() else no_folder(folder)
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
            tables.append((figure, table_of(figure, folder)))
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
    with drawn(figure, table, size=size) as sheet:
        write_whole(paths[0], table.to_csv(index=False, lineterminator="\n"))
        for path in paths[1:]:
            save_figure(sheet, path, frame=frame(sheet, size) if size else None)
    return paths
