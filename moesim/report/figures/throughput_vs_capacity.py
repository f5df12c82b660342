"""Tokens a second over the number of expert slots."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.report.figures.base import CAPACITY, OVER_CAPACITY, Chart, Figure, over

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class ThroughputVsCapacity(Figure):
    """Throughput over expert slots per layer, a line for each other choice."""

    kind = "throughput_vs_capacity"
    needs = OVER_CAPACITY
    chart = Chart("line", "slots_per_layer", "_tokens_per_s", "series")

    def obstacle(self, axes: Collection[str]) -> str:
        """A sweep without the capacity."""
        return over(CAPACITY, axes)

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, slots, throughput and its interval of each point; out-of-memory points without a
        number.
        """
        from moesim.report.sweep.capacity import capacity_table
        from moesim.report.sweep.series import throughputs

        return capacity_table(self, folder, throughputs)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines over the slots, with 95 % intervals; a gap where the memory did not suffice."""
        from moesim.report.sweep.capacity import draw_lines
        from moesim.report.sweep.series import throughput_column
        from moesim.sweep.speeds import THROUGHPUTS

        column = throughput_column(table)
        draw_lines(table, column, axes)
        axes.set_ylabel(THROUGHPUTS[column])
        axes.set_title("Throughput over expert capacity")
