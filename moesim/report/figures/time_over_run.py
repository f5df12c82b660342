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
"""Rows of passes; neighbours are averaged where there are more."""
SEEN = 1 / 500
"""Of the run: a shorter pause is not drawn."""
WAITS: Mapping[str, str] = {
    "stall": "waiting_for_weights", "barrier": "waiting_for_gpus", "cpu_wait": "waiting_for_cpu",
}  # fmt: skip
"""Columns of the table of steps by what figures call the time."""
LEAST_SHARE = 0.003
"""What takes less of the time cannot be seen."""
INSTANTS = ("start", "end", "decided")


class TimeOverRun(Figure):
    """Mean GPU time of a pass by cause, over the run, and the experts that were there, with gaps
    where no pass runs; of a sweep its best point.
    """

    kind = "time_over_run"
    needs = "a run, or a sweep with a point that ran to its end, with records of steps"
    chart = Chart("area", "start_s", "value", "series", r".*_ms", "GPU time of a pass (ms)")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """``start_s`` of a pass, its ``hit_share`` (hits over activations) and the GPUs' time by
        cause, in ms; means of neighbours where there are more passes than 96. Where no pass runs
        the times are 0 and ``hit_share`` is missing, as in the last row.
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
        return _with_pauses(table, steps["end_ns"] / 1e9).assign(run=name)

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
        if table["hit_share"].isna()[:-1].any():
            time.fill_between([], [], facecolor="none", edgecolor="none", label="gap: no pass")
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


def _with_pauses(table: pd.DataFrame, ends: pd.Series[float]) -> pd.DataFrame:
    """Means of neighbours, none across a long pause, and a row where a pause begins; the short
    pauses among neighbours are one behind them.
    """
    import pandas as pd

    starts, until = table["start_s"], ends.cummax()
    before = until.shift(fill_value=starts.iloc[0])
    span = until.iloc[-1] - starts.iloc[0]
    groups = pd.DataFrame({
        "part": ((starts - before) * MOST >= span).cumsum(),
        "place": np.arange(len(table)) * MOST // max(len(table), MOST),
        "run_s": until - np.maximum(starts, before),
    }).groupby(["part", "place"], sort=False)  # fmt: skip
    keys = groups.ngroup()
    means = table.groupby(keys).mean().assign(start_s=starts.groupby(keys).first())
    stops = means["start_s"] + groups["run_s"].sum().to_numpy()
    paused = stops[~(means["start_s"].shift(-1) - stops < SEEN * span)]
    pauses = pd.DataFrame(dict.fromkeys(means, 0.0), index=paused.index)
    pauses = pauses.assign(start_s=paused, hit_share=np.nan)
    return pd.concat([means, pauses]).sort_values("start_s", kind="stable").reset_index(drop=True)
