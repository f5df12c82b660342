"""What memory buys: throughput over peak memory, with the points that nothing beats."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from pathlib import Path
from textwrap import fill as wrapped
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from moesim.config.amounts.sizes import GIB
from moesim.model.chosen import SEPARATOR
from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import (
    LOGARITHMIC,
    MARKERS,
    line_style,
    marker_area,
    plain_numbers,
    series_styles,
)
from moesim.report.figures.base import CAPACITY, Chart, Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_SERIES = len(MARKERS)
"""Series that have a look of their own; of more, the front alone is named."""
MOST_IN_A_COLUMN = 12
"""Names of a front, of two lines and more each, that are no taller than the picture."""
MOST_NAMED = 24
"""Points of which each is named."""
LARGE = (8.0, 6.4)
"""Inches of the axes beside such names."""
WIDTH = 0.55
"""Of a letter, in heights of the usual font: a name that has no room right of its point stands left
of it.
"""
NAME = 44
"""Letters a line of the name of a point of the front."""
APART = 10
"""Pixels below which two points stand one above the other."""


class ThroughputVsMemory(Figure):
    """Throughput over the peak memory of a GPU, and its Pareto front; a look for each series."""

    kind = "throughput_vs_memory"
    needs = "a sweep with a point that ran to its end"
    chart = Chart("point", "peak_memory_bytes", "_tokens_per_s", "series")
    less: ClassVar[str] = "peak_memory_bytes"
    """What the front has as little of as it can: a key of a summary, drawn in ``unit``."""
    unit: ClassVar[float] = GIB
    across: ClassVar[str] = "Peak memory of a GPU (GiB)"
    title: ClassVar[str] = "Throughput over memory"
    from_0: ClassVar[bool] = False
    """Whether the axis of that begins at 0."""
    allow_drops: bool = Field(
        default=False, description="Let points that drop or skip choices be on the front, too."
    )

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """Larger where a long front is named beside it: many points stand on one another."""
        front = table["pareto"].fillna(value=False).astype(bool)
        crowded = table["series"].nunique() > MOST_SERIES and front.sum() > MOST_IN_A_COLUMN
        return LARGE if crowded else super().size(table)

    def obstacle(self, axes: Collection[str]) -> str:
        """A single run."""
        return "" if axes else "there is no sweep"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Point, series (the axes but the capacity), policy, capacity, status, what it takes, share
        of dropped choices, of requests that keep all that is promised (where something is),
        throughput, its interval, and whether no other of its model (named where there are several)
        has more with as little, what nobody measured being in the middle of its range.
        """
        import pandas as pd

        from moesim.report.sweep.series import throughput_column, throughputs
        from moesim.sweep.found import read_sweep
        from moesim.sweep.guessed import in_the_middle
        from moesim.sweep.identity import is_sweep
        from moesim.sweep.kinds import models
        from moesim.sweep.speeds import GOOD, knows_future, loses, losses, numbers
        from moesim.sweep.words import word

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
            "policy": sweep.policies,
            self.less: numbers(sweep.table, self.less),
            **losses(sweep.table),
        }
        good = numbers(sweep.table, GOOD)
        head |= {"good_share": good} if good.notna().any() else {}
        of_model = models(sweep.table, sweep.experiment)
        head |= {"model": of_model} if len(set(of_model)) > 1 else {}
        speed = throughputs(sweep.table)
        name = throughput_column(speed)
        table = pd.DataFrame(head).join(speed)
        ran = (table["status"] == "ok") & table[[self.less, name]].notna().all(axis=1)
        if not ran.any():
            lacking = f"no point has a '{self.less}' to show"
            ended = (table["status"] == "ok").any()
            raise self.unsuitable(folder, lacking if ended else "no point ran to its end")
        able = ran if self.allow_drops else ran & ~loses(table)
        known = knows_future(sweep.table)
        able &= ~known if not known[ran].all() else ran
        likely = in_the_middle(sweep.table)
        able &= likely if likely[able].any() else ran
        table["pareto"] = False
        for _, own in table[able].groupby(of_model[able]):
            table.loc[own.index, "pareto"] = pareto(own[self.less], own[name])
        table = table[ran | (table["status"] != "ok")]
        return table.sort_values(self.less, kind="stable").reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Points, filled where they are on the front, which is a staircase, crossed where they
        leave out choices; below the axes, which points ran out of memory.
        """
        from moesim.report.sweep.capacity import error_bars
        from moesim.report.sweep.series import throughput_column
        from moesim.report.sweep.table import WHATEVER
        from moesim.sweep.speeds import THROUGHPUTS, how_lost, loses

        table = table.fillna({"point": "", "series": "", "policy": "", "capacity": ""})
        column = throughput_column(table)
        ran = table[table["status"] == "ok"].reset_index(drop=True)
        ran = ran.assign(x=ran[self.less] / self.unit, y=ran[column].astype(float))
        front = ran[ran["pareto"].astype(bool)]
        several = "model" in front
        for _, own in front.groupby("model") if several else [("", front)]:
            axes.plot(own["x"], own["y"], drawstyle="steps-post", color="#999999", linewidth=1)
        error_bars(ran, column, ran["x"], axes, "#666666")
        high = float(ran["y"].max())
        axes.set_ylim(0, 1.06 * float(np.nanmax([high, *ran.get(f"high_{column}", [])])))
        axes.margins(x=0.08)
        if 0 < LOGARITHMIC * float(ran["x"].min()) <= float(ran["x"].max()):
            axes.set_xscale("log")
            plain_numbers(axes.xaxis)
        elif self.from_0:
            axes.set_xlim(0, 1.08 * float(ran["x"].max()))
        axes.set_xlabel(self.across)
        gone = _missing(table, self.less)
        axes.annotate(gone, (0, 0), (0, -42), xycoords="axes fraction", va="top",
                      textcoords="offset points", fontsize=9)  # fmt: skip
        axes.set_ylabel(THROUGHPUTS[column])
        losing = ran[loses(ran)].reset_index(drop=True)
        no = "" if self.allow_drops else how_lost(losing, "s")
        of = f" of what {no} no choice" if no else ""
        broken = "good_share" in ran and bool((ran["good_share"] < 1).any())
        end = WHATEVER if broken else ""
        each = " of each model" if several else ""
        axes.set_title(f"{self.title}; filled: the Pareto front{each}{of}{end}")
        if ran["series"].nunique() > MOST_SERIES:
            _front_only(ran, axes)
        else:
            _by_series(ran, axes)
        _cross(losing, axes)


def _cross(losing: pd.DataFrame, axes: Axes) -> None:
    """A cross on each point that leaves out choices, with the share below it."""
    from moesim.sweep.speeds import losses_in_words

    axes.scatter(losing["x"], losing["y"], marker="x", s=60 * marker_area(), color="#222222",
                 linewidth=1, zorder=4)  # fmt: skip
    texts = [losses_in_words(losing.iloc[[place]]) for place in range(len(losing))]
    _name_points(texts, losing, axes, (5, -10))


def _by_series(ran: pd.DataFrame, axes: Axes) -> None:
    """A marker and a colour a series; each point is named by its capacity."""
    groups = list(ran.groupby("series", sort=False))
    styles = series_styles({str(name): str(own["policy"].iloc[0]) for name, own in groups})
    for name, own in groups:
        style = styles[str(name)]
        marker = style.marker or "*"  # an offline policy's line has none
        faces = [style.color if best else "white" for best in own["pareto"]]
        axes.scatter(own["x"], own["y"], marker=marker, s=50 * marker_area(),
                     facecolors=faces, edgecolors=style.color, zorder=3)  # fmt: skip
        axes.plot([], [], marker=marker, color=style.color, linestyle="none", label=name)
    axes.autoscale_view(scaley=False)
    if len(ran) <= MOST_NAMED:
        _name_points(list(ran["capacity"]), ran, axes, (5, 4))
    if ran["series"].any():
        legend(axes)


def _name_points(
    texts: list[str], ran: pd.DataFrame, axes: Axes, apart: tuple[float, float]
) -> None:
    """The text of each point beside it, but of points one above another with the same text only at
    the highest.
    """
    from matplotlib import rcParams

    named: list[tuple[str, float]] = []
    dpi = axes.figure.dpi
    points = zip(texts, zip(ran["x"], ran["y"], strict=True), strict=True)
    for text, point in sorted(points, key=lambda pair: -pair[1][1]):
        x = axes.transData.transform(point)[0]
        if text and not any(n == text and abs(at - x) < APART for n, at in named):
            named.append((text, x))
            room = axes.bbox.x1 - x - apart[0]
            left = len(text) * WIDTH * float(rcParams["font.size"]) * dpi / 72 > room
            axes.annotate(text, point, (-apart[0] if left else apart[0], apart[1]), fontsize=8,
                          textcoords="offset points", ha="right" if left else "left")  # fmt: skip


def _front_only(ran: pd.DataFrame, axes: Axes) -> None:
    """A marker and a colour a point of the front, in the order of their heights, of several models
    under the name of each: leaders to names would run through other points.
    """
    front = ran["pareto"].to_numpy(dtype=bool)
    x, y = ran["x"].to_numpy(), ran["y"].to_numpy()
    axes.scatter(
        x[~front], y[~front], s=30 * marker_area(), facecolors="white", edgecolors="#666666"
    )
    alike, points = _named(ran[front].sort_values("y", ascending=False))
    columns = 1 + (sum(one.at is not None for one in points) > MOST_IN_A_COLUMN)
    number = count()
    for point in _together(points, columns):
        if point.at is None:
            axes.plot([], [], linestyle="none", label=point.name)
        else:
            style = line_style(next(number))
            axes.plot(*point.at, color=style.color, marker=style.marker, linestyle="none",
                      label=point.name)  # fmt: skip
    title = wrapped(f"all: {alike}", NAME) if alike else None
    legend(axes, title=title, title_fontsize=9, alignment="left", ncols=columns)
    heads, drawn = {point.name for point in points if point.at is None}, axes.get_legend()
    for text in drawn.get_texts() if drawn is not None and heads else ():
        text.set_fontweight("bold" if text.get_text() in heads else "normal")


class _Name(NamedTuple):
    """A line of the legend, of the point ``at`` a place; None: what those behind it are called."""

    name: str
    at: tuple[float, float] | None = None


def _named(front: pd.DataFrame) -> tuple[str, list[_Name]]:
    """What all points of a front are called, and what each is called beside that, of several models
    behind what those of its model are.
    """
    alike, names = _apart_in_words(list(front["point"]))
    front = front.assign(name=names)
    if "model" not in front or len(set(front["model"])) == 1:
        return alike, _of_group(front)
    found: list[_Name] = []
    for model, own in front.groupby("model", sort=False):
        common, names = _apart_in_words(list(own["name"]))
        if len(names) == 1:  # which has nothing in common with others
            names = [", ".join(_without(str(model), names[0]))]
        rest = _without(str(model), common)
        head = ": ".join(filter(None, (str(model), ", ".join(rest))))
        found += [_Name(wrapped(head, NAME)), *_of_group(own.assign(name=names))]
    return alike, found


def _without(model: str, name: str) -> list[str]:
    """The words of a ``name`` but for the ``model``, in whatever format."""
    return [part for part in name.split(", ") if part.partition(SEPARATOR)[0] != model]


def _of_group(front: pd.DataFrame) -> list[_Name]:
    places = zip(front["name"], front["x"], front["y"], strict=True)
    return [_Name(wrapped(name, NAME), (x, y)) for name, x, y in places]


def _together(points: list[_Name], columns: int) -> list[_Name]:
    """``points`` with empty lines, so that none of so many ``columns`` ends with what the next one
    begins with: the lines are shared out evenly, the first columns having one more.
    """
    found = list(points)
    for _ in range(2 * columns):
        parts = np.array_split(np.arange(len(found)), columns)[:-1]
        lone = [int(part[-1]) for part in parts if found[part[-1]].at is None]
        if not lone or not found[lone[0]].name.strip():
            break
        found.insert(lone[0], _Name(" "))
    return found


def _apart_in_words(names: list[str]) -> tuple[str, list[str]]:
    """What all of several points are called, and what each is called beside that."""
    parts = [name.split(", ") for name in names]
    alike = [part for part in parts[0] if all(part in own for own in parts)] if parts[1:] else []
    words = (", ".join(part for part in own if part not in alike) for own in parts)
    return ", ".join(alike), list(words)


def _missing(table: pd.DataFrame, less: str) -> str:
    """A line for series of which the same points ran out of memory; what they need, in GiB."""
    gone = table[table["status"] == "out_of_memory"]
    if gone.empty or less != ThroughputVsMemory.less:
        return ""
    found: dict[str, list[str]] = {}
    for name, own in gone.groupby("series", sort=False):
        needs = [
            f"{capacity} ({peak / GIB:.1f} GiB)".strip()
            for capacity, peak in zip(own["capacity"], own["peak_memory_bytes"], strict=True)
        ]
        found.setdefault(", ".join(needs), []).append(str(name))
    texts = [f"{', '.join(names)}: {need}" if any(names) else need for need, names in found.items()]
    shown = texts[:6]
    more = [f"and {len(texts) - 6} more"] if len(texts) > 6 else []  # noqa: PLR2004
    lines = [wrapped(line, 74, subsequent_indent="  ") for line in (*shown, *more)]
    return "Out of memory:\n" + "\n".join(lines)


def pareto(cost: pd.Series[float], gain: pd.Series[float]) -> pd.Series[bool]:
    """Whether no other point has as much gain at as little cost and beats it in one of them."""
    import pandas as pd

    c, g = cost.to_numpy(dtype=float), gain.to_numpy(dtype=float)
    dominated = [
        bool(np.any((c <= c[i]) & (g >= g[i]) & ((c < c[i]) | (g > g[i])))) for i in range(len(c))
    ]
    return pd.Series(~np.array(dominated, dtype=bool), index=cost.index)
