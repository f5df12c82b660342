"""Where the GPUs' time of a pass goes, from the begin of a run to its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.advice.chosen_run import run_of
from moesim.report.drawing.labels import legend
from moesim.report.drawing.panels import panels
from moesim.report.drawing.style import faces
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.components import cause_in_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST = 96
"""Rows of the table; neighbours are averaged where there are more passes."""
WAITS: Mapping[str, str] = {
    "stall": "waiting_for_weights", "barrier": "waiting_for_gpus", "cpu_wait": "waiting_for_cpu",
}  # fmt: skip
"""Columns of the table of steps by what figures call the time."""
LEAST_SHARE = 0.003
"""What takes less of the time cannot be seen."""
INSTANTS = ("start", "end", "decided")


class TimeOverRun(Figure):
    """Mean GPU time of a pass by cause, over the run, and the experts that were there; of a sweep
    its best point.
    """

    kind = "time_over_run"
    needs = "a run, or a sweep with a point that ran to its end, with records of steps"
    chart = Chart("area", "start_s", "value", "series", r".*_ms", "GPU time of a pass (ms)")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """``start_s`` of a pass, its ``hit_share`` (hits over activations) and the GPUs' time by
        cause, in ms; means of neighbours where there are more passes than 96.
        """
        import pandas as pd

        from moesim.results import read_result

        name, run = run_of(self, folder)
        steps = read_result(run).steps
        if steps.empty:
            raise self.unsuitable(folder, "its run has no table of steps")
        steps = steps.sort_values("start_ns", kind="stable").reset_index(drop=True)
        causes = [c.removesuffix("_ns") for c in map(str, steps) if c.endswith("_ns")]
        causes.sort(key=WAITS.__contains__)
        spent = sum(steps[f"{cause}_ns"].sum() for cause in causes if cause not in INSTANTS)
        found = {
            f"{WAITS.get(cause, cause)}_ms": steps[f"{cause}_ns"] / 1e6
            for cause in causes
            if cause not in INSTANTS and steps[f"{cause}_ns"].sum() > LEAST_SHARE * spent
        }
        wanted = np.maximum(steps["activations"].to_numpy(float), 1)
        table = pd.DataFrame({
            "start_s": steps["start_ns"] / 1e9,
            "hit_share": steps["hits"].to_numpy(float) / wanted,
            **found,
        })  # fmt: skip
        if len(table) > MOST:
            table = table.groupby(np.arange(len(table)) * MOST // len(table)).mean()
        return table.reset_index(drop=True).assign(run=name)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Areas one above the other, and the hits below."""
        seconds = table["start_s"].to_numpy(float)
        time, hits = panels(axes, ["GPU time (ms)", "Hits (%)"])
        base = np.zeros(len(table))
        names = [name for name in map(str, table) if name.endswith("_ms")]
        looks = faces(name.removesuffix("_ms") for name in names)
        for name, (cause, look) in zip(names, looks.items(), strict=True):
            top = base + table[name].to_numpy(float)
            time.fill_between(
                seconds, base, top, step="post", facecolor=look.facecolor, hatch=look.hatch,
                edgecolor="#333333", linewidth=0.3, label=cause_in_words(cause),
            )  # fmt: skip
            base = top
        time.set_ylim(0, float(base.max()) * 1.05 or 1)
        legend(time, handleheight=1.4, handlelength=2.2)
        hits.plot(seconds, 100 * table["hit_share"].to_numpy(float), color="#222222",
                  drawstyle="steps-post", linewidth=0.9)  # fmt: skip
        hits.set_ylim(-2, 102)
        for area in (time, hits):
            area.set_xlim(seconds[0], max(seconds[-1], np.nextafter(seconds[0], np.inf)))
        axes.set_xlabel("Simulated time (s)")
        run = table["run"].iloc[0]
        what = "A pass over the run, by what its time goes to"
        axes.set_title(f"{what}: {run}" if isinstance(run, str) and run else what)

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """Room for two."""
        del table
        return (5.6, 4.2)
