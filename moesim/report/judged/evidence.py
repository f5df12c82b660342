"""The evidence: every run of a pack beside its prediction, as a table, two figures and a page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.calibrate.published.overview import WORDS
from moesim.calibrate.published.predict import within
from moesim.config.files.files import write_whole
from moesim.report.amounts import number
from moesim.report.drawing.point_names import name_points
from moesim.report.drawing.style import COLOURS, plain_numbers
from moesim.report.judged.published import (
    Drawing,
    amounts,
    draw,
    is_time,
    runs_table,
    saved,
    told,
)
from moesim.report.page.told import Told, ToldTable, write_told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PAGE = "evidence.csv", "evidence.md"
FIGURES = {
    "predicted_against_measured": "Predicted against measured time a token; the band is 25 %",
    "by_machine": "The same by GPU",
    "error_by_price": "Error of the time a token by what most of it rests on",
}
RANGE = (
    "a 90 % range covers what prices like these were off by, links, software and the host's share"
    " of its DRAM where those are priors, what a full host's system may crowd out, and the misses"
    " of stand-in traces, no other assumption"
)
INTRODUCTION = """# Evidence

Runs that others made, each predicted from an experiment's file, by no number that was fitted to it.
Errors are of the time a token, or of the time that stands there in ms; above 0 moesim is too slow.
"""
ARITHMETIC = "What is assumed of them stands in the table; what they took, and would imply:"
NARROW = 12
"""Letters of a label below a figure."""
FAR = 1.5
"""Times the measured time, or one in so many, beyond which a run is named."""


def write_evidence(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``table`` (``blind``'s, with ranges), its figures and its page into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TABLE, table.to_csv(index=False, lineterminator="\n"))
    drawings: Sequence[Drawing] = (draw, partial(draw, by="gpu"), draw_by_price)
    figures = [
        saved(one, table, folder / f"{name}.{suffix}")
        for name, one in zip(FIGURES, drawings, strict=True)
        for suffix in ("png", "svg")
    ]
    write_whole(folder / PAGE, page(table))
    write_told(_told(table), folder)
    return [folder / TABLE, *figures, folder / PAGE]


def _told(table: pd.DataFrame) -> Told:
    first, *others = lines(table)
    of = ["of"] if table.get("of", pd.Series(dtype=str)).isin([*WORDS]).any() else []
    shown = ["run", "engine", "model", "gpu", *of, "measured_tokens_per_s",
             "predicted_tokens_per_s", "low_tokens_per_s", "high_tokens_per_s",
             "error_percent", "rests_on", "implies", "assumed"]  # fmt: skip
    return Told(
        kind="evidence",
        title="Runs that others made, beside their predictions",
        setting="no number is fitted to them; errors are of the time a token, above 0: too slow",
        verdict=[first, *(line.strip() for line in others)],
        board=ToldTable(
            title="Runs",
            file=TABLE,
            columns=[name for name in shown if name in table.columns],
            axes=["run", "engine", "model", "gpu"],
        ),
        figures={f"{name}.svg": words for name, words in FIGURES.items()},
        trust=[*dict.fromkeys(table.get("assumed", pd.Series(dtype=str)).dropna())],
    )


def lines(table: pd.DataFrame) -> list[str]:
    """What the table says in sentences: errors, order, ranges, and what has no prediction."""
    found = told(table)
    return (
        found
        + inside_line(table)
        + [f"no prediction of {run}: {why}" for run, why in missing(table)]
    )


def inside_line(table: pd.DataFrame) -> list[str]:
    """How many runs lie in their ranges; nothing where none has one."""
    inside, known = within(table)
    if not known:
        return []
    share = f"{inside} of {known} ({100 * inside / known:.0f} %)"
    return [f"measured inside the stated range: {share}; {RANGE}"]


def wrong_lines(table: pd.DataFrame) -> list[str]:
    """Markdown: a line for each run that is ``far`` off, with what its measured time implies."""
    rows = far(table).to_dict("records")
    return [f"- {_md(r['run'])} ({r['error_percent']:+.0f} %): {r['implies']}." for r in rows]


def _md(text: str) -> str:
    return f"**{text}**"


def missing(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The runs that have no speed, and why."""
    without = table[table["predicted_tokens_per_s"].isna()]
    return list(zip(without["run"], without["reason"], strict=True))


def far(table: pd.DataFrame) -> pd.DataFrame:
    """The runs whose time is off by more than ``FAR`` times."""
    ratio = table["measured_tokens_per_s"] / table["predicted_tokens_per_s"]
    return table[(ratio > FAR) | (ratio < 1 / FAR)]


def terminal_table(table: pd.DataFrame) -> Table:
    """A row a run."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "engine"):
        shown.add_column(name, overflow="fold")
    times = "of" in table.columns and table["of"].isin([*WORDS]).any()
    head = "measured\ntokens/s, ms" if times else "measured\ntokens/s"
    for name in (head, "predicted", "range", "error of\nms %"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        measured, predicted, low, high = amounts(row)
        units = (" ms" if is_time(row) and one > 0 else "" for one in (measured, predicted))
        speeds = map("{}{}".format, (number(measured), number(predicted)), units)
        error = row["error_percent"]
        told = "-" if pd.isna(error) else f"{error:+.0f}"
        span = f"{number(low, 3)}-{number(high, 3)}" if low < high else "-"
        shown.add_row(row["run"], row["family"], *speeds, span, told)
    return shown


def page(table: pd.DataFrame) -> str:
    """The page as Markdown."""
    wrong = far(table)
    parts = [
        INTRODUCTION,
        *(f"- {line.strip()}" for line in lines(table)),
        "",
        *(f"![{words}]({name}.png)\n" for name, words in FIGURES.items()),
        *runs_table(table),
        "\n## Where it is wrong\n",
        f"Off by more than {FAR:g} times: {', '.join(wrong['run']) or 'none'}."
        + (f" {ARITHMETIC}\n" if len(wrong) else ""),
        *wrong_lines(table),
    ]
    return "\n".join(parts) + "\n"


def draw_by_price(table: pd.DataFrame, axes: Axes) -> None:
    """The error of each run over what the largest part of its time rests on."""
    known = table.dropna(subset=["error_percent"])
    kinds = known["most_rests_on"].fillna("")
    named: list[tuple[str, float, float]] = []
    names = sorted(set(kinds))
    for place, name in enumerate(names):
        mine = known[kinds == name]
        size = 1 + mine["error_percent"].to_numpy(float) / 100
        x = place + np.linspace(-0.25, 0.25, len(mine))
        axes.scatter(x, size, color=COLOURS[place % len(COLOURS)], s=26)
        named += zip(mine["run"].astype(str), x, size, strict=True)
    axes.axhline(1.0, color="black", linewidth=0.7)
    axes.axhspan(1 / 1.25, 1.25, color="#eeeeee", zorder=0)
    axes.set(
        yscale="log", ylabel="predicted / measured time a token", xlim=(-0.6, len(names) - 0.4)
    )
    plain_numbers(axes.yaxis)
    axes.set_xticks(range(len(names)), [fill(name, NARROW) for name in names])
    axes.set_xlabel("what the largest part of the time rests on")
    name_points(axes, named)
