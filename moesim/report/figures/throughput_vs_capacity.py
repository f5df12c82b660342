"""Tokens a second over the number of expert slots."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from moesim.report.capacity import NEEDS, capacity_table, draw_lines
from moesim.report.figures.base import Figure
from moesim.report.series import THROUGHPUTS, throughput_column, throughputs


class ThroughputVsCapacity(Figure):
    """Throughput over expert slots per layer, a line for each other choice."""

    kind = "throughput_vs_capacity"
    needs = NEEDS

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, slots, throughput and its interval of each point; out-of-memory points without a
        number.
        """
        return capacity_table(self, folder, throughputs)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines over the slots, with 95 % intervals; a gap where the memory did not suffice."""
        column = throughput_column(table)
        draw_lines(table, column, axes)
        axes.set_ylabel(THROUGHPUTS[column])
        axes.set_title("Throughput over expert capacity")
