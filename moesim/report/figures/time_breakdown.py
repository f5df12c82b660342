"""Where the GPUs' time goes: one stacked bar a point."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.drawing.labels import below, legend
from moesim.report.drawing.style import faces
from moesim.report.drawing.times import milliseconds
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.components import cause_in_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_BARS = 40
KEY = "time_share."
LATENCIES = {"mean_ttft_ms": "mean TTFT", "mean_tpot_ms": "mean TPOT"}
APART = 1.23
"""Distance of their columns in inches where the font is of the usual size."""
CAUSES = r"(?!dropped|skipped|cut|lowered).*_share"
"""Columns of the table that are no loss of choices."""
LEAST_PERCENT = 0.05
"""A cause below this in every bar cannot be seen, and is left out of the legend."""


class TimeBreakdown(Figure):
    """Shares of the GPUs' time by cause, a bar for each point that ran to its end."""

    kind = "time_breakdown"
    needs = "a run or a sweep with a point that ran to its end"
    chart = Chart("bar", "value", "point", "series", CAUSES, "share of the GPUs' time")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Point, mean TTFT and TPOT in ms, the share of choices left out and that of each cause,
        those that operations add last. Of more than 40 points the first ones and the best;
        ``points`` is how many there are, then.
        """
        import pandas as pd

        from moesim.results import TIME_SHARES
        from moesim.sweep.speeds import losses, numbers

        every, best = self._points(folder)
        ran = every[every["status"] == "ok"]
        if ran.empty:
            raise self.unsuitable(folder, "no point of it ran to its end")
        points = _first_and(best, ran).reset_index(drop=True)
        own = (name.removeprefix(KEY) for name in map(str, points) if name.startswith(KEY))
        causes = [*TIME_SHARES, *(cause for cause in own if cause not in TIME_SHARES)]
        shares = {f"{cause}_share": numbers(points, f"{KEY}{cause}") for cause in causes}
        if all(share.isna().all() for share in shares.values()):
            raise self.unsuitable(folder, "its summary has no time_share")
        head = {"point": points["point"]} | {n: numbers(points, n) for n in LATENCIES}
        of = {"points": len(ran)} if len(ran) > len(points) else {}
        return pd.DataFrame({**head, **of, **losses(points), **shares})

    def _points(self, folder: Path) -> tuple[pd.DataFrame, Hashable]:
        """All points, and which is the best: a number; None where there is none."""
        from moesim.results import read_result
        from moesim.sweep.found import read_sweep
        from moesim.sweep.identity import is_sweep
        from moesim.sweep.table import tabulate

        if is_sweep(folder):
            sweep = read_sweep(folder)
            best = sweep.best()
            return sweep.table.assign(point=sweep.labels()), None if best is None else best.name
        return tabulate([{"point": "this run"}], [read_result(folder).summary]), None

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Bars from the top in the order of the points; mean latencies at their ends, where the
        legend is there, too.
        """
        places = np.arange(len(table))
        left = np.zeros(len(table))
        for cause, look in faces(_causes(table)).items():
            width = table[f"{cause}_share"].to_numpy(dtype=float) * 100
            if np.nanmax(width, initial=0) < LEAST_PERCENT:
                continue
            axes.barh(
                places, width, left=left, height=0.75, label=cause_in_words(cause),
                facecolor=look.facecolor, hatch=look.hatch, edgecolor="#333333", linewidth=0.5,
            )  # fmt: skip
            left = left + np.nan_to_num(width)
        axes.set_yticks(places, _names(table))
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 100)
        axes.set_xlabel("Share of the GPUs' time (%)")
        cut = f", {len(table)} of {table['points'][0]} points" if "points" in table else ""
        columns = [name for name in LATENCIES if table[name].notna().any() and not below()]
        axes.set_title(f"Where the time goes{cut}", pad=22 if columns else None)
        apart = _apart(axes)
        for number, name in enumerate(columns):
            _write(table[name], 1.02 + apart * number, LATENCIES[name], axes)
        right = 1.02 + apart * max(len(columns), 1)
        legend(axes, right=right, handleheight=1.4, handlelength=2.2)

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """As high as the bars need."""
        return (5.6, max(1.9, 0.34 * len(table) + 0.4))


def _first_and(best: Hashable, points: pd.DataFrame) -> pd.DataFrame:
    """The first ``MOST_BARS``, the last of them giving way to the ``best`` where it comes later."""
    first = points.head(MOST_BARS)
    if best is None or best in first.index:
        return first
    return points.loc[[*first.index[:-1], best]]


def _causes(table: pd.DataFrame) -> list[str]:
    """What the time went to, in the order of the bars."""
    from moesim.results import TIME_SHARES

    names = list(table.columns)
    first = names.index(f"{TIME_SHARES[0]}_share")
    return [name.removesuffix("_share") for name in names[first:] if name.endswith("_share")]


def _names(table: pd.DataFrame) -> list[str]:
    """Each point in words, with what it leaves out."""
    from moesim.sweep.speeds import losses_in_words

    drops = [losses_in_words(table.iloc[[n]]) for n in range(len(table))]
    points = table["point"].astype(str)
    return [f"{p} ({d})" if d else p for p, d in zip(points, drops, strict=True)]


def _apart(axes: Axes) -> float:
    """Distance of the columns of latencies in widths of the axes."""
    from matplotlib import rcParams

    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are drawn on a sheet"
    return APART * float(rcParams["font.size"]) / 10 / float(figure.get_figwidth())


def _write(values: pd.Series[float], x: float, title: str, axes: Axes) -> None:
    for place, value in values.dropna().items():
        axes.text(100 * x, float(place), milliseconds(float(value)), va="center", fontsize=9)  # type: ignore[arg-type]
    axes.annotate(
        title, xy=(x, 1), xycoords="axes fraction", xytext=(0, 4),
        textcoords="offset points", fontsize=9,
    )  # fmt: skip
