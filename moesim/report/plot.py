"""Draw figures of a result folder: a table, a PNG and an SVG each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet

from moesim.config.errors import InputError, Problem
from moesim.report.figures import Figure, registry
from moesim.report.style import METADATA, RC
from moesim.results import is_result
from moesim.results.files import read_json, unwritable
from moesim.results.folder import read_experiment
from moesim.sweep.identity import SWEEP, is_sweep


def plot(
    folder: Path | str, kinds: Sequence[str] = (), out: Path | str | None = None
) -> list[Path]:
    """Draw figures of the run or the sweep in ``folder`` and return the files written.

    ``kinds`` default to the experiment's ``figures`` (of a run, which may be the base point of a
    sweep, to those of them that apply), and without these to all that apply; ``out`` defaults to
    ``figures`` in ``folder``. Raises an InputError where a figure that was asked for
    cannot be drawn from this result, or where none can.
    """
    source = Path(folder)
    target = Path(out) if out else source / "figures"
    asked = list(kinds) or named_figures(source)
    if asked and (kinds or is_sweep(source)):
        tables = prepared(source, asked)
    else:
        tables = applicable(source)
        tables = {kind: tables[kind] for kind in asked if kind in tables} or tables
    written = []
    try:
        for kind, table in tables.items():
            target.mkdir(parents=True, exist_ok=True)
            written += save(registry.get(kind)(), table, target)
    except OSError as error:
        raise unwritable(target, error) from error
    return written


def named_figures(folder: Path) -> list[str]:
    """The ``figures`` of the experiment in ``folder``."""
    if is_sweep(folder):
        experiment = read_json(folder / SWEEP).get("experiment", {})
    elif is_result(folder):
        experiment = read_experiment(folder)
    else:
        raise InputError([Problem(str(folder), "", _neither(folder))])
    return list(experiment.get("figures") or [])


def _neither(folder: Path) -> str:
    """What to say of ``folder``; 'moesim advise' writes sweeps into folders of its own."""
    what = "holds neither a run nor a sweep"
    if below := [str(one) for one in sorted(folder.glob("*")) if is_sweep(one)]:
        return f"{what} itself; name one of the sweeps in it: {', '.join(below)}"
    return f"{what}; 'moesim run' and 'moesim sweep' write them"


def prepared(folder: Path, kinds: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The tables of the figures ``kinds``; one InputError with all that cannot be made."""
    tables: dict[str, pd.DataFrame] = {}
    problems: list[Problem] = []
    for kind in kinds:
        try:
            tables[kind] = registry.get(kind)().prepare(folder)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(dict.fromkeys(problems))
    return tables


def applicable(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of all figures that ``folder`` has the data for; an InputError if of none."""
    tables: dict[str, pd.DataFrame] = {}
    problems: list[Problem] = []
    for kind, figure in registry.components.items():
        try:
            tables[kind] = figure().prepare(folder)
        except InputError as error:
            problems += error.problems
    if not tables:
        raise InputError(dict.fromkeys(problems))
    return tables


def save(figure: Figure, table: pd.DataFrame, target: Path) -> list[Path]:
    """Write ``table`` as CSV and what it shows as PNG and SVG; the same table, the same bytes."""
    paths = [target / f"{figure.kind}.{suffix}" for suffix in ("csv", "png", "svg")]
    table.to_csv(paths[0], index=False, lineterminator="\n")
    with drawn(figure, table) as sheet:
        for path in paths[1:]:
            sheet.savefig(path, metadata=dict(METADATA[path.suffix[1:]]))
    return paths


@contextmanager
def drawn(figure: Figure, table: pd.DataFrame) -> Iterator[Sheet]:
    """``table`` drawn on a sheet of its own, under the settings with which it is to be saved."""
    width, height = figure.size(table)
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Sheet(figsize=(width, height))
        FigureCanvasAgg(sheet)
        figure.draw(table, sheet.add_axes((0.0, 0.0, 1.0, 1.0)))
        yield sheet
