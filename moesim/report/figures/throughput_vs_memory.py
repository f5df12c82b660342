"""What memory buys: throughput over peak memory, with the points that nothing beats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moesim.report.capacity import error_bars
from moesim.report.figures.base import Figure
from moesim.report.labels import EndLabel, label_ends
from moesim.report.series import (
    THROUGHPUTS,
    numbers,
    read_sweep,
    throughput_column,
    throughputs,
)
from moesim.report.style import COLOURS
from moesim.sweep.identity import is_sweep

GIB = 2**30


class ThroughputVsMemory(Figure):
    """Throughput over the peak memory of a GPU, and its Pareto front."""

    kind = "throughput_vs_memory"
    needs = "a sweep with a point that ran to its end"

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Point, peak memory, throughput, its interval, and whether no other has more with as
        little.
        """
        if not is_sweep(folder):
            raise self.unsuitable(folder, "the folder holds no sweep")
        sweep = read_sweep(folder)
        speed = throughputs(sweep.table)
        name = throughput_column(speed)
        peak = numbers(sweep.table, "peak_memory_bytes").rename("peak_memory_bytes")
        table = pd.concat([sweep.labels().rename("point"), peak, speed], axis=1)[
            sweep.table["status"] == "ok"
        ].dropna(subset=["peak_memory_bytes", name])
        if table.empty:
            raise self.unsuitable(folder, "no point of the sweep ran to its end")
        table["pareto"] = pareto(table["peak_memory_bytes"], table[name])
        return table.sort_values("peak_memory_bytes", kind="stable").reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Points, filled and named where they are on the front, which is a staircase."""
        column = throughput_column(table)
        memory = table["peak_memory_bytes"].to_numpy(dtype=float) / GIB
        speed = table[column].to_numpy(dtype=float)
        front = table["pareto"].to_numpy(dtype=bool)
        axes.scatter(memory[~front], speed[~front], s=30, facecolors="white", edgecolors="#666666")
        axes.plot(memory[front], speed[front], drawstyle="steps-post", color=COLOURS[0],
                  marker="o", linestyle="-")  # fmt: skip
        error_bars(table, column, table["peak_memory_bytes"] / GIB, axes, "#666666")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.06)
        axes.set_xlabel("Peak memory of a GPU (GiB)")
        axes.set_ylabel(THROUGHPUTS[column])
        axes.set_title("Throughput over memory, with its Pareto front")
        names = table["point"].to_numpy()
        label_ends(
            axes,
            [
                EndLabel(str(names[i]), memory[i], speed[i], COLOURS[0])
                for i in np.flatnonzero(front)
            ],
        )


def pareto(cost: pd.Series[float], gain: pd.Series[float]) -> pd.Series[bool]:
    """Whether no other point has as much gain at as little cost and beats it in one of them."""
    c, g = cost.to_numpy(dtype=float), gain.to_numpy(dtype=float)
    dominated = [
        bool(np.any((c <= c[i]) & (g >= g[i]) & ((c < c[i]) | (g > g[i])))) for i in range(len(c))
    ]
    return pd.Series(~np.array(dominated, dtype=bool), index=cost.index)
