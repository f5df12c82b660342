"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from moesim.config.counted import counted
from moesim.report.amounts import in_unit, number
from moesim.report.page.best_of_each import best_of_each, chosen_lines
from moesim.report.page.chooser import chooser_of
from moesim.report.page.content import Board, Column, Page
from moesim.report.page.parts import (
    command,
    experiment_text,
    ledger,
    made,
    pictures,
    shares,
    timeline,
    unique,
    waits,
)
from moesim.report.page.upgrades import helped
from moesim.report.run.trust import price_range, sweep_trust
from moesim.report.sweep.best import best_lines
from moesim.report.sweep.table import (
    COLUMNS,
    PACED,
    grows,
    reasons,
    whatever_promised,
    with_shown,
)
from moesim.results.folder import read_experiment
from moesim.results.result import setting_in_words
from moesim.sweep.found import Sweep, read_finished, read_sweep
from moesim.sweep.guessed import GUESSED, middle_of
from moesim.sweep.identity import read_axes
from moesim.sweep.point import point_folder
from moesim.sweep.speeds import knows_future, numbers
from moesim.sweep.table import summary_of
from moesim.sweep.words import in_words, last_word

if TYPE_CHECKING:
    from moesim.engine.progress import Progress

RELOADS_S = 15
SPEEDS = ("output_throughput", "total_token_throughput")
GUESS = "{0}: nobody measured it, so it is no choice, and at first {1} alone is ticked"


def page_of_sweep(folder: Path, progress: Progress | None = None) -> Page:
    """What the sweep in ``folder`` says: its best point, all points, and what they rest on.
    ``progress`` is told how far what is played again of the best is.
    """
    sweep = read_sweep(folder)
    page, best = _page(folder, sweep), sweep.best()
    if best is None:
        return page
    point = int(str(best.name))
    of_best = point_folder(folder, point), summary_of(folder, point)
    helps, upgrades = helped(*of_best, progress)
    return replace(page, helps=helps, upgrades=upgrades)


def page_so_far(folder: Path) -> Page:
    """The same of the points that are finished, of a sweep that goes on; it loads itself again."""
    sweep = read_finished(folder)
    page, total = _page(folder, sweep), len(read_axes(folder))
    line = f"The sweep goes on: {len(sweep.table)} of {counted(total, 'point')} are finished."
    return replace(page, verdict=[*page.verdict, line], reloads_s=RELOADS_S)


def _page(folder: Path, sweep: Sweep) -> Page:
    best = sweep.best()
    point = None if best is None else int(str(best.name))
    summary = {} if point is None else summary_of(folder, point)
    at = folder if point is None else point_folder(folder, point)
    chooser = chooser_of(sweep)
    seen, seen_notes = timeline(folder, best=True) if summary else ([], [])
    lines = [*sweep_answer(sweep, summary), waits(summary)]
    return Page(
        kind="sweep",
        title=str(sweep.experiment.get("name") or folder.name),
        setting=setting_in_words(sweep.experiment, without=sweep.varying),
        verdict=unique(
            [*chosen_lines(chooser), *lines] if chooser else [*lines, *best_lines(sweep)]
        ),
        command=command(sweep.experiment if point is None else read_experiment(at)),
        board=board_of(sweep),
        pictures=pictures(folder),
        timeline=seen,
        timeline_notes=seen_notes,
        shares=shares(summary),
        ledger=ledger(summary),
        ledger_of="The fullest GPU at its peak, at the best point",
        tables=best_of_each(chooser) if chooser else (),
        chooser=chooser,
        trust=unique(sweep_trust(sweep.table)),
        experiment=experiment_text(sweep.experiment),
        made=[] if point is None else made(at),
    )


def sweep_answer(sweep: Sweep, summary: dict[str, Any]) -> Iterator[str]:
    """The fastest point, how far its prices reach, and how many there are."""
    total, ran = len(sweep.table), len(sweep.ok())
    best = sweep.best()
    if best is None:
        yield f"No point of {total:,} ran to its end without leaving out choices."
        return
    speed = summary.get("output_throughput") or summary.get("total_token_throughput")
    label = sweep.labels().to_dict()[best.name] or "its only point"
    told = f"{label}, {number(speed)} tokens/s."
    if sweep.kept_up[int(str(best.name))]:
        yield f"{PACED[0].upper()}{PACED[1:]}."
        yield f"What is told of one point is of {told}"
    else:
        promised = whatever_promised(sweep.table)
        yield f"The fastest of {ran:,} points that ran{promised}: {told}"
    yield from price_range(summary)
    if ran < len(sweep.table):
        yield f"{total - ran:,} of {total:,} points did not run: the leaderboard says why."


def board_of(sweep: Sweep) -> Board:
    """A row a point, the fastest first: axes, the numbers of the terminal's table, status."""
    orders = {axis: [in_words(value) for value in sweep.table[axis]] for axis in sweep.axes}
    sweep = replace(sweep, table=_fastest_first(sweep.table))
    points = with_shown(sweep.table)
    axes = [
        Column(
            last_word(axis),
            [in_words(value) for value in sweep.table[axis]],
            axis=axis,
            order=tuple(dict.fromkeys(orders[axis])),
            picked=in_words(middle_of(sweep.table[axis])) if axis in GUESSED else None,
        )
        for axis in sweep.varying or sweep.axes
    ]
    known = [column for column in COLUMNS if column[0] in points.columns]
    figures = [
        Column(
            title.replace("\n", " ").strip(),
            [form(value) for value in points[name]],
            [in_unit(value, title) for value in numbers(points, name)],
        )
        for name, title, form in known
        if name != "interval"
    ]
    spans = [
        Column("95 % interval", [form(value) for value in points[name]])
        for name, _, form in known
        if name == "interval"
    ]
    states = [str(status).replace("_", " ") for status in sweep.table["status"]]
    future = knows_future(sweep.table)
    told = [
        f"{state}; knows the future" if ahead else state
        for state, ahead in zip(states, future, strict=True)
    ]
    best = sweep.best()
    place = None
    if best is not None and not sweep.kept_up[int(str(best.name))]:
        place = list(sweep.table.index).index(best.name)
    columns = [*axes, *figures, *spans, Column("status", told)]
    notes = [GUESS.format(one.heading, one.picked) for one in axes if one.picked is not None]
    ahead = [row for row, known in enumerate(future) if known and not future.all()]
    return Board(columns, place, [*notes, *reasons(sweep.table), *grows(sweep.table)], ahead=ahead)


def _fastest_first(points: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in SPEEDS if name in points.columns and points[name].notna().any()]
    return points.sort_values(names[:1], ascending=False, kind="stable") if names else points
