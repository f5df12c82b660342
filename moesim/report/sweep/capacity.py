"""Lines over the expert capacity: what the figures over it have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from moesim.report.drawing.labels import EndLabel, label_ends, legend
from moesim.report.drawing.style import HEADROOM, KNOWS, OFFLINE_POLICY, series_styles, sizes
from moesim.report.figures.base import CAPACITY, Figure
from moesim.report.sweep.series import slots
from moesim.sweep.found import read_sweep
from moesim.sweep.identity import is_sweep
from moesim.sweep.speeds import losses, losses_in_words

X = "slots_per_layer"
MOST_TICKS = 14


def capacity_table(
    figure: Figure, folder: Path, measure: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """The points of a sweep over the capacity.

    Columns: ``series`` (the other axes in words), ``slots_per_layer``, ``policy``, ``status``,
    what ``speeds.losses`` says; and the columns that ``measure`` makes of the sweep's table.
    """
    if not is_sweep(folder):
        raise figure.unsuitable(folder, "the folder holds no sweep")
    sweep = read_sweep(folder)
    if obstacle := figure.obstacle(sweep.axes):
        raise figure.unsuitable(folder, obstacle)
    if sweep.ok().empty:
        raise figure.unsuitable(folder, "no point of the sweep ran to its end")
    head = {
        "series": sweep.labels(without=[CAPACITY]),
        X: slots(sweep.table),
        "policy": sweep.policies,
        "status": sweep.table["status"],
        **losses(sweep.table),
    }
    table = pd.DataFrame(head).join(measure(sweep.table))
    return table[table[X].notna()].sort_values(X, kind="stable").reset_index(drop=True)


def draw_lines(table: pd.DataFrame, column: str, axes: Axes) -> None:
    """One line a series of ``column`` over the slots; a point without a number is a gap.

    The series of MIN, which knows the future, are black and dashed.
    """
    ends = []
    groups = list(table.fillna({"series": ""}).groupby("series", sort=False))
    styles = series_styles({str(name): _policy(line) for name, line in groups})
    for number, (name, line) in enumerate(groups):
        style = styles[str(name)]
        y = line[column].where(line["status"] == "ok").to_numpy(dtype=float)
        (drawn,) = axes.plot(
            line[X], y, color=style.color, marker=style.marker, linestyle=style.linestyle,
            **sizes(number, len(groups)),
        )  # fmt: skip
        error_bars(line, column, line[X], axes, style.color)
        if np.isfinite(y).any() and name:
            words = series_words(str(name), line)
            drawn.set_label(words)
            ends.append(end_label(words, line[X].to_numpy(dtype=float), y, drawn))
    axes.set_xlabel("Expert slots per MoE layer and GPU")
    _ticks(table, axes)
    axes.set_ylim(0, max(axes.get_ylim()[1], HEADROOM * float(axes.dataLim.y1)))
    mark_gaps(table, X, column, axes)
    if all(end.x == table[X].max() for end in ends):
        label_ends(axes, ends)
    else:
        # leaders would cross the gaps like data
        legend(axes, sorted(ends, key=lambda end: -end.y), handlelength=3.2)


def _policy(line: pd.DataFrame) -> str:
    """The policy of all points of a series; "" where it has several or none."""
    known = set(line["policy"].dropna().astype(str))
    return known.pop() if len(known) == 1 else ""


def series_words(name: str, line: pd.DataFrame) -> str:
    """What a series is called: with what it leaves out, and whether it knows the future."""
    drops = losses_in_words(line[line["status"] == "ok"])
    notes = [note for note in (KNOWS if _policy(line) == OFFLINE_POLICY else "", drops) if note]
    return f"{name} ({', '.join(notes)})" if notes else name


def error_bars(
    table: pd.DataFrame, column: str, places: pd.Series[float], axes: Axes, color: str
) -> None:
    """The intervals of ``column`` at ``places`` where ``table`` has them; they are of the time
    after the warm-up, so a point of the whole run may lie outside.
    """
    sides = [f"{side}_{column}" for side in ("low", "high")]
    if set(sides) <= set(table.columns):
        low, high = (table[side].to_numpy(dtype=float) for side in sides)
        middle, half = (low + high) / 2, (high - low) / 2
        axes.errorbar(places, middle, half, fmt="none", ecolor=color, elinewidth=1.2, capsize=3)


def end_label(name: str, x: np.ndarray, y: np.ndarray, line: Line2D) -> EndLabel:
    """The label of a line at its last finite point; its leader has the colour of the line."""
    last = int(np.flatnonzero(np.isfinite(y))[-1])
    return EndLabel(name, float(x[last]), float(y[last]), str(line.get_color()), line)


def _ticks(table: pd.DataFrame, axes: Axes) -> None:
    places = sorted(set(table[X]))
    low, high = places[0], places[-1]
    margin = max((high - low) * 0.06, 0.5)
    axes.set_xlim(low - margin, high + margin)
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places, [f"{place:g}" for place in places])


def mark_gaps(table: pd.DataFrame, over: str, column: str, axes: Axes) -> None:
    """A hatched band at the places ``over`` where points have no number in ``column``, with what
    happened there and to whom: at the top, or at the bottom where points are at the top.
    """
    top = axes.get_ylim()[1]
    places = sorted(set(table[over]))
    width = min(np.diff(places), default=1.0) * 0.4
    gaps = table[table["status"] != "ok"]
    for place in sorted(set(gaps[over])):
        here = table[table[over] == place]
        axes.axvspan(
            place - width / 2, place + width / 2,
            facecolor="none", edgecolor="#aaaaaa", hatch="////", linewidth=0, zorder=0.5,
        )  # fmt: skip
        known = here[column].where(here["status"] == "ok").dropna() / top
        low = len(known) > 0 and bool(1 - known.max() < known.min())
        axes.text(
            place, 0.02 if low else 0.98, gap_text(here), rotation=90, ha="center",
            va="bottom" if low else "top", fontsize=9, zorder=6,
            transform=axes.get_xaxis_transform(),
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def gap_text(here: pd.DataFrame) -> str:
    """Why points of one capacity have no number; the series are named unless it is all of them."""
    texts, ran = [], list(here.loc[here["status"] == "ok", "series"])
    for status, points in here[here["status"] != "ok"].groupby("status"):
        names = list(points["series"])
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""  # noqa: PLR2004
        whose = "" if len(names) == len(here) else f": {', '.join(names[:2])}{more}"
        if more and ran and len(ran) <= 2 and len(names) + len(ran) == len(here):  # noqa: PLR2004
            whose = f": all but {' and '.join(ran)}"
        texts.append(f"{str(status).replace('_', ' ')}{whose}")
    return "; ".join(texts)
