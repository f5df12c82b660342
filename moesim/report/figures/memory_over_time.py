"""The bytes on the busiest GPU over time, by category, below its capacity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError
from moesim.report.advice.chosen_run import run_of
from moesim.report.drawing.labels import EndLabel, label_ends
from moesim.report.drawing.style import face
from moesim.report.figures.base import Chart, Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_INSTANTS = 1500
LIMITS = ("capacity_bytes", "driver_bytes")
"""Columns of bytes that are no category."""


class MemoryOverTime(Figure):
    """Stacked memory by category; of a sweep, its point with the best throughput among those that
    leave out no choice (of all where every point does).
    """

    kind = "memory_over_time"
    needs = "a run, or a sweep with a point that ran to its end, whose memory was recorded"
    chart = Chart(
        "area", "time_ns", "value", "series", r"(?!capacity|driver|host).*_bytes", "bytes"
    )

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Time and bytes by category at no more than 1,500 instants, peaks kept; and the bytes
        that the driver takes, missing where the hardware is not known any more.
        """
        from moesim.results import read_result
        from moesim.results.result import memory_categories

        name, run = run_of(self, folder)
        result = read_result(run)
        memory = result.memory
        if memory.empty:
            raise self.unsuitable(folder, "its table of memory is empty")
        used = [c for c in memory_categories(memory) if memory[c].max() > 0]
        table = thin(memory[["time_ns", *used, "capacity_bytes"]], used)
        taken = driver_bytes(result.configuration.get("hardware"), memory["capacity_bytes"].max())
        named = table.rename(columns={c: f"{c}_bytes" for c in used})
        return named.assign(driver_bytes=taken, run=name)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Areas with hatches, named at their right ends; the capacity as a line. Of a single
        instant, as where memory did not suffice, a bar with the size of each part.
        """
        alone = _alone(table)
        import pandas as pd

        seconds = table["time_ns"].to_numpy(dtype=float) / 1e9
        if alone:
            table, seconds = pd.concat([table.tail(1)] * 2), np.array([0.0, 1.0])
        base = np.zeros(len(table))
        ends = []
        categories = [c for c in table.columns if c.endswith("_bytes") and c not in LIMITS]
        for column in categories:
            top = base + table[column].to_numpy(dtype=float) / GIB
            look = face(column.removesuffix("_bytes"))
            area = axes.fill_between(
                seconds, base, top, step="post", facecolor=look.facecolor, hatch=look.hatch,
                edgecolor="#333333", linewidth=0.4,
            )  # fmt: skip
            name = column.removesuffix("_bytes").replace("_", " ")
            name += f" {top[-1] - base[-1]:.2f} GiB" if alone else ""
            ends.append(EndLabel(name, seconds[-1], float(base[-1] + top[-1]) / 2, artist=area))
            base = top
        capacity = float(table["capacity_bytes"].max()) / GIB
        line = axes.axhline(capacity, color="black", linestyle=(0, (4, 2)))
        ends.append(EndLabel(capacity_words(table), seconds[-1], capacity, artist=line))
        axes.set_xlim(seconds[0], seconds[-1])
        axes.set_ylim(0, max(capacity, float(base.max())) * 1.06)
        axes.set_xlabel("Simulated time (s)")
        axes.set_ylabel("Memory of the busiest GPU (GiB)")
        what = "Memory over time"
        if alone:
            what = "Memory needed, too much" if float(base.max()) > capacity else "Memory"
            axes.set_xlim(-0.15, 1)
            axes.set_xticks([])
            axes.set_xlabel("")
        run = table["run"].iloc[0]
        axes.set_title(f"{what}: {run}" if isinstance(run, str) and run else what)
        label_ends(axes, ends)

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """Narrow for a single instant."""
        return (2.0, 3.8) if _alone(table) else super().size(table)


def _alone(table: pd.DataFrame) -> bool:
    """Whether there is one instant only, as of a run that did not begin."""
    return bool(table["time_ns"].iloc[0] == table["time_ns"].iloc[-1])


def driver_bytes(hardware: Any, capacity_bytes: int) -> float:
    """What the driver takes of a GPU that leaves ``capacity_bytes``; NaN where nobody knows."""
    from moesim.hardware.load import load_hardware

    try:
        profile = load_hardware(str(hardware))
    except InputError:
        return float("nan")
    left = profile.memory_bytes - profile.context_bytes
    return float(profile.context_bytes) if left == capacity_bytes else float("nan")


def capacity_words(table: pd.DataFrame) -> str:
    """What the line of the capacity is called."""
    taken = table["driver_bytes"].iloc[0]
    share = "part" if np.isnan(taken) else f"{taken / GIB:.2g} GiB"
    return f"GPU memory (less the driver's {share})"


def thin(memory: pd.DataFrame, used: list[str]) -> pd.DataFrame:
    """At most ``MOST_INSTANTS`` rows: of each group of neighbours the one with the most bytes."""
    if len(memory) <= MOST_INSTANTS:
        return memory.reset_index(drop=True)
    group = np.arange(len(memory)) * (MOST_INSTANTS - 2) // len(memory)
    peaks = memory[used].sum(axis=1).reset_index(drop=True).groupby(group).idxmax()
    keep = sorted({0, *peaks.tolist(), len(memory) - 1})
    return memory.iloc[keep].reset_index(drop=True)
