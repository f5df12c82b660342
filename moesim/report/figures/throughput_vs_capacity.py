"""Tokens a second over the number of expert slots."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from moesim.report.capacity import NEEDS, capacity_table, draw_lines
from moesim.report.figures.base import Figure
from moesim.report.series import THROUGHPUTS, throughput, throughput_column


class ThroughputVsCapacity(Figure):
    """Throughput over expert slots per layer, a line for each other choice."""

    kind = "throughput_vs_capacity"
    needs = NEEDS

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Series, slots and throughput of each point; out-of-memory points without a number."""
        return capacity_table(self, folder, lambda points: throughput(points).to_frame())

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Lines over the slots; a gap where the memory did not suffice."""
        column = throughput_column(table)
        draw_lines(table, column, axes)
        axes.set_ylabel(THROUGHPUTS[column])
        axes.set_title("Throughput over expert capacity")
