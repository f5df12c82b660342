"""Published runs beside moesim's: a figure, and a table for a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moesim.calibrate.host.fit import HostFit
from moesim.calibrate.published.overview import WORDS
from moesim.calibrate.published.predict import equal_pairs, median_error, right_pairs
from moesim.config.counted import counted
from moesim.report.drawing.point_names import name_points
from moesim.report.drawing.style import COLOURS, RC, plain_numbers, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Drawing = Callable[[pd.DataFrame, "Axes"], None]
MARKERS = "osD^v<>P"
MARGIN, BAND = 1.3, 1.25
LARGE = 1000
WIDE, LONGEST = (9, 5), 30
"""Inches of a figure whose legend lies beside it, and signs of its longest label."""
MOST_NAMED, FURTHEST, MOST_INSIDE = 40, 8, 8
"""Runs of a figure that are all named, and how many are of one that has more; lines of a legend
that lies inside.
"""


def draw(table: pd.DataFrame, axes: Axes, by: str | None = None) -> None:
    """Predicted over measured time a token of ``blind``'s ``table`` ``by`` a column [by engine, or
    by GPU where there is one engine]; of many runs those alone are named that are furthest off.
    """
    by = by or ("family" if len(set(table["family"])) > 1 else "gpu")
    off = pd.Series(np.log(table[_SPEEDS[1]] / table[_SPEEDS[0]]), table.index).abs()
    told = table.index if len(table) <= MOST_NAMED else off.nlargest(FURTHEST).index
    named: list[tuple[str, float, float]] = []
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    for (of, mine), (colour, marker) in zip(table.groupby(by), styles, strict=False):
        measured, predicted = (1e3 / mine[name].astype(float) for name in _SPEEDS)
        axes.scatter(measured, predicted, color=colour, marker=marker, label=_short(str(of)), s=26)
        rows = mine.index.intersection(told)
        named += [(str(mine.loc[row, "run"]), measured[row], predicted[row]) for row in rows]
    times = 1e3 / table[list(_SPEEDS)].to_numpy(float)
    ends = np.array([np.nanmin(times) / MARGIN, np.nanmax(times) * MARGIN])
    axes.plot(ends, ends, color="black", linewidth=0.7)
    axes.fill_between(ends, ends / BAND, ends * BAND, color="#eeeeee", zorder=0)
    axes.set(xscale="log", yscale="log", xlim=tuple(ends), ylim=tuple(ends))
    plain_numbers(axes.xaxis, axes.yaxis)
    unit = "ms" if table["of"].astype(bool).any() else "ms a token"
    axes.set(xlabel=f"measured ({unit})", ylabel=f"predicted ({unit})")
    if len(axes.get_legend_handles_labels()[0]) > MOST_INSIDE:
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        if (sheet := axes.get_figure(root=True)) is not None:
            sheet.set_size_inches(*WIDE)
    else:
        axes.legend(fontsize="small")
    name_points(axes, named)


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def save(table: pd.DataFrame, path: Path) -> Path:
    """Draw ``table`` into ``path``; the band is 25 % to either side."""
    return saved(draw, table, path)


def saved(drawing: Drawing, table: pd.DataFrame, path: Path) -> Path:
    """``table`` as ``drawing`` has it, in ``path``."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(6, 5), layout="constrained")
        FigureCanvasAgg(sheet)
        drawing(table, sheet.add_subplot())
        save_figure(sheet, path)
    return path


def summary(table: pd.DataFrame, judged: pd.DataFrame) -> list[str]:
    """The median error, by how the experts are served too, the order, and the judged hosts."""
    lines = told(table)
    for row in judged.to_dict("records"):
        what = f"{row['run']}, with its host fitted to {row['fitted_to']}"
        lines.append(f"{what}: {row['error_percent']:+.0f} % of the time a token")
    hosts = table["host"][table["host"] != ""].value_counts()
    alone = counted(int((hosts == 1).sum()), "host")
    lines.append(f"{alone} of {len(hosts)} with one run only: nothing judges a fit to it")
    return lines


def told(table: pd.DataFrame) -> list[str]:
    """The median error of each time that the runs are of, by how the experts are served too, and
    the order.
    """
    right, pairs = right_pairs(table)
    known = table.dropna(subset="error_percent")
    if known.empty:
        return ["median error of the time a token: none, as no run has a prediction"]
    kinds = known["of"].fillna("") if "of" in known.columns else pd.Series("", known.index)
    lines = [line for of, mine in known.groupby(kinds, sort=False) for line in _errors(of, mine)]
    if pairs:
        equal = equal_pairs(table)
        were = "were" if equal > 1 else "was"
        left = f" ({equal} more {were} measured to be equal)" if equal else ""
        lines.append(f"pairs of one engine in the measured order: {right} of {pairs}{left}")
    return lines


def _errors(of: str, known: pd.DataFrame) -> list[str]:
    """Of runs that are all of the time ``of`` ("": of a speed) and have a prediction."""
    what = WORDS.get(of, "time a token")
    lines = [f"median error of the {what}: {_median(known)}"]
    on_cpu = known["waiting_for_cpu_percent"] > 0
    for name, part in (("experts on the CPU", known[on_cpu]), ("all others", known[~on_cpu])):
        if len(part):
            lines.append(f"  {name}: {_median(part)}")
    return lines


def _median(known: pd.DataFrame) -> str:
    return f"{median_error(known):.0f} % of {counted(len(known), 'run')}"


def amounts(row: Mapping[Any, Any]) -> list[float]:
    """Measured, predicted, the least and the most of a run: tokens/s, or milliseconds where it is
    ``of`` a time; NaN where there is none.
    """
    names = ("measured", "predicted", "low", "high")
    speeds = [float(row.get(f"{name}_tokens_per_s", np.nan)) for name in names]
    if not is_time(row):
        return speeds
    measured, predicted, low, high = (1e3 / one for one in speeds)
    return [measured, predicted, high, low]


def is_time(row: Mapping[Any, Any]) -> bool:
    """Whether the run is of a time, and of no speed."""
    return row.get("of") in WORDS


def runs_table(table: pd.DataFrame) -> list[str]:
    """Markdown: a line a run, with its ``amounts``."""
    ranged = "low_tokens_per_s" in table.columns
    heads = ["run", "engine", "model", "GPU", "measured", "predicted", *["range"] * ranged,
             "error of ms", "rests on", "assumed"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in table.to_dict("records"):
        unit = " ms" if is_time(row) else ""
        measured, predicted, low, high = amounts(row)
        speeds = [_told(one, ".4g", unit) for one in (measured, predicted)]
        if ranged:
            speeds.append(f"{_end(low)} to {_end(high)}{unit}" if low < high else "-")
        error = _told(row["error_percent"], "+.0f", " %")
        about = [_cell(row[name]) for name in ("run", "engine", "model", "gpu")]
        rest = [_cell(row[name]) for name in ("rests_on", "assumed")]
        lines.append(f"| {' | '.join((*about, *speeds, error, *rest))} |")
    return lines


def _told(value: float, form: str, unit: str = "") -> str:
    return "-" if pd.isna(value) else f"{value:{form}}{unit}"


def _end(value: float) -> str:
    return f"{value:.3g}" if value < LARGE else f"{value:.0f}"


def _cell(text: str) -> str:
    """Anybody's text in one cell of a table of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def hosts_table(
    fits: Mapping[str, HostFit], off: Mapping[str, Sequence[float]] | None = None
) -> list[str]:
    """Markdown: a line a fitted host, by name; with how far ``off`` its other runs are, in percent
    of the time a token, where that is given.
    """
    heads = ["host", "share of the DRAM peak", "at -10 %, +10 % speed", "GB/s"]
    heads += ["its other runs, error of ms"] if off is not None else []
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for host, fit in fits.items():
        near = ", ".join("none" if share is None else f"{share:.0%}" for share in fit.near)
        reached = f"{fit.host.expert_bytes_per_second / 1e9:.0f}"
        cells = [f"`{host}`", f"{fit.share:.0%}", near, reached]
        cells += [", ".join(f"{one:+.0f}" for one in off[host]) + " %"] if off is not None else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


_SPEEDS = ("measured_tokens_per_s", "predicted_tokens_per_s")
