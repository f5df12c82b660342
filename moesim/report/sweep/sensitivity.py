"""How far each input moves the speed: a table, and bars."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.files.files import write_whole
from moesim.experiment.schema.experiment import Experiment
from moesim.report.amounts import number
from moesim.report.drawing.style import COLOURS
from moesim.report.judged.published import saved
from moesim.report.page.parts import experiment_text
from moesim.report.page.told import Told, ToldTable, write_told
from moesim.results.result import plain_experiment, setting_in_words
from moesim.sweep.sensitivity import Sensitivity, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV, FIGURE, SUFFIXES = "sensitivity.csv", "sensitivity", ("png", "svg")
WIDEST = 60
"""Characters of a title's line."""


def frame(found: Sensitivity) -> pd.DataFrame:
    """A row a run: ``input``, ``set_to``, ``guess``, ``tokens_per_s`` (``tokens_per_s_a_request``
    where arrivals set that of all), ``change_percent``; ``ranged``: set to an end of its range.
    """
    speed = found.unit.replace("/", "_per_").replace(" ", "_")
    rows = [
        {
            "input": one.title,
            "set_to": run.words,
            "guess": run.guess,
            speed: run.throughput,
            "change_percent": 100 * (run.throughput / found.as_is - 1) if run.throughput else None,
            "ranged": run.ranged,
        }
        for one in found.inputs
        for run in one.runs
    ]
    return pd.DataFrame(rows)


def table(found: Sensitivity) -> Table:
    """A row an input, the one that moves the speed most first."""
    shown = Table(
        title=f"{number(found.as_is)} {found.unit} as it is", box=SIMPLE_HEAD, pad_edge=False
    )
    shown.add_column("input")
    shown.add_column("set to")
    for name in (found.unit.replace(" ", "\n", 1), "change\n%"):
        shown.add_column(name, justify="right", no_wrap=True)
    for one in found.inputs:
        low, high = one.ends
        words = [run.words for run in one.runs]
        told = f"{words[0]} ... {words[-1]}" if len(words) > 1 else words[0]
        change = f"{100 * (low / found.as_is - 1):+z.1f} to {100 * (high / found.as_is - 1):+z.1f}"
        shown.add_row(one.title + one.mark, told, f"{number(low)}-{number(high)}", change)
    return shown


def files(found: Sensitivity) -> list[Path]:
    """The table, and the bars."""
    return [found.folder / name for name in (CSV, *(f"{FIGURE}.{suffix}" for suffix in SUFFIXES))]


def write_sensitivity(found: Sensitivity, experiment: Experiment) -> None:
    """The bars as PNG and SVG, their table, and what a page says, in the folder of ``found``."""
    rows = frame(found)
    write_whole(found.folder / CSV, rows.to_csv(index=False, lineterminator="\n"))
    for suffix in SUFFIXES:
        saved(lambda _, axes: draw(found, axes), rows, found.folder / f"{FIGURE}.{suffix}")
    plain = plain_experiment(experiment)
    told = Told(
        kind="sensitivity",
        title=f"{found.name}: what moves its {number(found.as_is)} {found.unit}",
        setting=setting_in_words(plain),
        verdict=[*in_words(found)],
        board=ToldTable(title="Inputs", file=CSV, axes=["input", "guess"]),
        figures={f"{FIGURE}.svg": "How far each input moves the speed"},
        experiment=experiment_text(plain),
    )
    write_told(told, found.folder)


def draw(found: Sensitivity, axes: Axes) -> None:
    """A bar an input from its least to its most, the longest on top; guesses are hatched."""
    ordered = found.inputs[::-1]
    for place, one in enumerate(ordered):
        low, high = (100 * (end / found.as_is - 1) for end in one.ends)
        axes.barh(
            place, high - low, left=low, color=COLOURS[1 if one.guess else 0],
            hatch="//" if one.guess else None, edgecolor="#ffffff",
        )  # fmt: skip
    axes.use_sticky_edges = False  # room beside the longest bar
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(
        range(len(ordered)),
        [f"{one.title}{one.mark}" for one in ordered],
    )
    axes.set_xlabel(f"change of {number(found.as_is)} {found.unit} (%)")
    ends = f"x {1 / found.factor:.3g} to x {found.factor:.3g}, or by their ranges ({CSV})"
    title = "\n".join(wrap(f"{found.name}: inputs {ends}", WIDEST, break_on_hyphens=False))
    sheet = axes.get_figure()
    assert sheet is not None, "it is drawn on one"
    sheet.suptitle(title, x=0.01, ha="left", fontsize=11)
