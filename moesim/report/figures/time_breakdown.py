"""Where the GPUs' time goes: one stacked bar a point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moesim.report.figures.base import Figure
from moesim.report.series import numbers, read_sweep
from moesim.report.style import fill
from moesim.results import TIME_SHARES, read_result
from moesim.sweep.identity import is_sweep
from moesim.sweep.table import tabulate

MOST_BARS = 40


class TimeBreakdown(Figure):
    """Shares of the GPUs' time by cause, a bar for each point that ran to its end."""

    kind = "time_breakdown"
    needs = "a run or a sweep with a point that ran to its end"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Point, mean TPOT in ms, and the share of each cause; at most the first 40 points."""
        points = self._points(folder)
        points = points[points["status"] == "ok"].head(MOST_BARS).reset_index(drop=True)
        if points.empty:
            raise self.unsuitable(folder, "no point of it ran to its end")
        shares = {f"{cause}_share": numbers(points, f"time_share.{cause}") for cause in TIME_SHARES}
        if all(share.isna().all() for share in shares.values()):
            raise self.unsuitable(folder, "its summary has no time_share")
        head = {"point": points["point"], "mean_tpot_ms": numbers(points, "mean_tpot_ms")}
        return pd.DataFrame({**head, **shares})

    def _points(self, folder: Path) -> pd.DataFrame:
        if is_sweep(folder):
            sweep = read_sweep(folder)
            return sweep.table.assign(point=sweep.labels())
        summary = read_result(folder).summary
        return tabulate([{"point": summary.get("name") or folder.name}], [summary])

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Bars from the top in the order of the points, time per output token at their ends."""
        places = np.arange(len(table))
        left = np.zeros(len(table))
        for number, cause in enumerate(TIME_SHARES):
            width = table[f"{cause}_share"].to_numpy(dtype=float) * 100
            if not np.nansum(width):
                continue
            face = fill(number)
            axes.barh(
                places, width, left=left, height=0.75, label=cause.replace("_", " "),
                facecolor=face.facecolor, hatch=face.hatch, edgecolor="#333333", linewidth=0.5,
            )  # fmt: skip
            left = left + np.nan_to_num(width)
        axes.set_yticks(places, [str(point) for point in table["point"]])
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 100)
        axes.set_xlabel("Share of the GPUs' time (%)")
        cut = f", first {MOST_BARS} points" if len(table) == MOST_BARS else ""
        axes.set_title(f"Where the time goes{cut}", pad=22)
        _write_tpot(table, axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.24, 1.0), frameon=False, fontsize=9,
                    handleheight=1.4, handlelength=2.2, borderaxespad=0)  # fmt: skip

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """As high as the bars need."""
        return (5.6, max(1.9, 0.34 * len(table) + 0.4))


def _write_tpot(table: pd.DataFrame, axes: Axes) -> None:
    known = table["mean_tpot_ms"].dropna()
    if known.empty:
        return
    for place, value in known.items():
        axes.text(102, float(place), f"{value:.4g} ms", va="center", fontsize=9)  # type: ignore[arg-type]
    axes.annotate(
        "mean TPOT", xy=(1.02, 1), xycoords="axes fraction", xytext=(0, 4),
        textcoords="offset points", fontsize=9,
    )  # fmt: skip
