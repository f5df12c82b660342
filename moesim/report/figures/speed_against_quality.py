"""Tokens a second against what a run does less well than it could."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moesim.report.figures.base import Chart, Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class SpeedAgainstQuality(Figure):
    """Throughput over the share of gate weight that is not served in the best format (or, where a
    table says it, over the quality), a line for each choice beside the first axis.
    """

    kind = "speed_against_quality"
    needs = "a sweep with a point that lowers, skips or drops gate weight"
    chart = Chart("point", "not_in_full_share", "_tokens_per_s", "series")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, the first axis' value, policy, status, losses, the share not served in full, and
        throughput; the quality too, where all points have one.
        """
        from moesim.report.run.quality import SHARE, quality_table
        from moesim.sweep.found import read_sweep
        from moesim.sweep.identity import is_sweep

        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        if sweep.ok().empty:
            raise self.unsuitable(folder, "no point of the sweep ran to its end")
        table = quality_table(sweep)
        if not (table[SHARE] > 0).any():
            raise self.unsuitable(folder, "every point serves all gate weight in the best format")
        return table

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines in the order of the first axis; hollow points skip, drop or cut choices."""
        from moesim.report.run.quality import draw_quality

        draw_quality(table, axes)
