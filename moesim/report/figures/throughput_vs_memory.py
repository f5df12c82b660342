"""What memory buys: throughput over peak memory, with the points that nothing beats."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill as wrapped

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moesim.report.capacity import error_bars
from moesim.report.figures.base import Figure
from moesim.report.labels import EndLabel, label_ends
from moesim.report.series import (
    CAPACITY,
    THROUGHPUTS,
    numbers,
    read_sweep,
    throughput_column,
    throughputs,
    word,
)
from moesim.report.style import COLOURS, MARKERS, line_style
from moesim.sweep.identity import is_sweep

GIB = 2**30
MOST_SERIES = len(MARKERS)
"""Series that have a look of their own; of more, the front alone is named."""
MOST_NAMED = 24
"""Points of which each is named."""
APART = 10
"""Least distance in pixels of two equal names."""


class ThroughputVsMemory(Figure):
    """Throughput over the peak memory of a GPU, and its Pareto front; a look for each series."""

    kind = "throughput_vs_memory"
    needs = "a sweep with a point that ran to its end"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Point, series (the axes but the capacity), capacity, status, peak memory, throughput, its
        interval, and whether no other has more with as little.
        """
        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        varying = CAPACITY in sweep.varying
        head = {
            "point": sweep.labels(),
            "series": sweep.labels(without=[CAPACITY]),
            "capacity": [
                word(CAPACITY, c) if varying else ""
                for c in sweep.table.get(CAPACITY, sweep.table["status"])
            ],
            "status": sweep.table["status"],
            "peak_memory_bytes": numbers(sweep.table, "peak_memory_bytes"),
        }
        speed = throughputs(sweep.table)
        name = throughput_column(speed)
        table = pd.DataFrame(head).join(speed)
        ran = (table["status"] == "ok") & table[["peak_memory_bytes", name]].notna().all(axis=1)
        if not ran.any():
            raise self.unsuitable(folder, "no point of the sweep ran to its end")
        front = pareto(table.loc[ran, "peak_memory_bytes"], table.loc[ran, name])
        table["pareto"] = front.reindex(table.index, fill_value=False)
        table = table[ran | (table["status"] != "ok")]
        return table.sort_values("peak_memory_bytes", kind="stable").reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Points, filled where they are on the front, which is a staircase; below the axes, which
        points ran out of memory.
        """
        table = table.fillna({"point": "", "series": "", "capacity": ""})
        column = throughput_column(table)
        ran = table[table["status"] == "ok"].reset_index(drop=True)
        ran = ran.assign(x=ran["peak_memory_bytes"] / GIB, y=ran[column].astype(float))
        front = ran[ran["pareto"].astype(bool)]
        axes.plot(front["x"], front["y"], drawstyle="steps-post", color="#999999", linewidth=1)
        error_bars(ran, column, ran["x"], axes, "#666666")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08)
        axes.set_xlabel("Peak memory of a GPU (GiB)")
        axes.annotate(_missing(table), (0, 0), (0, -42), xycoords="axes fraction", va="top",
                      textcoords="offset points", fontsize=9)  # fmt: skip
        axes.set_ylabel(THROUGHPUTS[column])
        axes.set_title("Throughput over memory; filled: the Pareto front")
        if ran["series"].nunique() > MOST_SERIES:
            _front_only(ran, axes)
        else:
            _by_series(ran, axes)


def _by_series(ran: pd.DataFrame, axes: Axes) -> None:
    """A marker and a colour a series; each point is named by its capacity."""
    for number, (name, own) in enumerate(ran.groupby("series", sort=False)):
        style = line_style(number)
        faces = [style.color if best else "white" for best in own["pareto"]]
        axes.scatter(own["x"], own["y"], marker=style.marker, s=50, facecolors=faces,
                     edgecolors=style.color, zorder=3)  # fmt: skip
        axes.plot([], [], marker=style.marker, color=style.color, linestyle="none", label=name)
    axes.autoscale_view()
    axes.set_ylim(bottom=0)
    if len(ran) <= MOST_NAMED:
        _name_capacities(ran, axes)
    if ran["series"].any():
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9,
                    borderaxespad=0)  # fmt: skip


def _name_capacities(ran: pd.DataFrame, axes: Axes) -> None:
    """The capacity right of each point, but not again where it would touch the same name."""
    named: list[tuple[str, float, float]] = []
    for text, point in zip(ran["capacity"], zip(ran["x"], ran["y"], strict=True), strict=True):
        x, y = axes.transData.transform(point)
        near = [n for n in named if n[0] == text and np.hypot(n[1] - x, n[2] - y) < APART]
        if text and not near:
            named.append((text, x, y))
            axes.annotate(text, point, (5, 4), fontsize=8,
                          textcoords="offset points")  # fmt: skip


def _front_only(ran: pd.DataFrame, axes: Axes) -> None:
    front = ran["pareto"].to_numpy(dtype=bool)
    x, y = ran["x"].to_numpy(), ran["y"].to_numpy()
    axes.scatter(x[~front], y[~front], s=30, facecolors="white", edgecolors="#666666")
    axes.scatter(x[front], y[front], s=36, color=COLOURS[0], zorder=3)
    named = ran[front]
    label_ends(
        axes,
        [
            EndLabel(*end, COLOURS[0])
            for end in zip(named["point"], named["x"], named["y"], strict=True)
        ],
    )


def _missing(table: pd.DataFrame) -> str:
    """Lines with the points of each series that ran out of memory; what they need, in GiB."""
    gone = table[table["status"] == "out_of_memory"]
    if gone.empty:
        return ""
    texts = []
    for name, own in gone.groupby("series", sort=False):
        needs = [
            f"{capacity} ({peak / GIB:.1f} GiB)".strip()
            for capacity, peak in zip(own["capacity"], own["peak_memory_bytes"], strict=True)
        ]
        texts.append(f"{name!s}: {', '.join(needs)}" if name else ", ".join(needs))
    shown = texts[:6]
    more = [f"and {len(texts) - 6} more"] if len(texts) > 6 else []  # noqa: PLR2004
    lines = [wrapped(line, 74, subsequent_indent="  ") for line in (*shown, *more)]
    return "Out of memory:\n" + "\n".join(lines)


def pareto(cost: pd.Series[float], gain: pd.Series[float]) -> pd.Series[bool]:
    """Whether no other point has as much gain at as little cost and beats it in one of them."""
    c, g = cost.to_numpy(dtype=float), gain.to_numpy(dtype=float)
    dominated = [
        bool(np.any((c <= c[i]) & (g >= g[i]) & ((c < c[i]) | (g > g[i])))) for i in range(len(c))
    ]
    return pd.Series(~np.array(dominated, dtype=bool), index=cost.index)
