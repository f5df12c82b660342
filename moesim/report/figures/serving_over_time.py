"""How full a service is: who runs and waits, blocks, and hits of experts, over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moesim.report.drawing.labels import legend
from moesim.report.drawing.panels import panels
from moesim.report.drawing.style import line_style
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.served import served_steps

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LITTLE = 10.0
"""Percent below which an axis ends above the most, as little of a whole cannot be seen."""
MOST = 1000
"""Rows of the table; neighbours are averaged where there are more steps."""


class ServingOverTime(Figure):
    """Running and waiting requests, held blocks and the share of experts that hit, by step; none
    between two.
    """

    kind = "serving_over_time"
    needs = "a run of requests that are served (batching: continuous), with records of steps"
    chart = Chart("line", "time_s", "running_requests")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """``time_s`` of the begin of a step, ``running_requests``, ``waiting_requests``,
        ``kv_usage_share`` (of an unlimited cache missing) and ``hit_share`` of experts; of several
        instances all requests and the mean share, as each of them last decided.
        """
        import pandas as pd

        steps, summary = served_steps(self, folder)
        steps = steps.sort_values("start_ns", kind="stable")  # of several instances they overlap
        blocks, usage = summary.get("kv_blocks"), np.full(len(steps), np.nan)
        if blocks and "free_blocks" in steps:
            most = float(steps["free_blocks"].max())
            ranks = max(1, round(most / blocks))
            usage = 1 - steps["free_blocks"].to_numpy(float) / max(most, blocks * ranks)
        made = steps["activations"].to_numpy(float)
        table = pd.DataFrame({
            "time_s": steps["start_ns"] / 1e9,
            "running_requests": of_instances(steps, steps["running"]).sum(axis=1),
            "waiting_requests": of_instances(steps, steps["waiting"]).sum(axis=1),
            "kv_usage_share": of_instances(steps, pd.Series(usage, steps.index)).mean(axis=1),
            "hit_share": steps["hits"].to_numpy(float) / np.maximum(made, 1),
        })  # fmt: skip
        if len(table) > MOST:
            groups = table.groupby(np.arange(len(table)) * MOST // len(table))
            table = groups.mean().assign(time_s=groups["time_s"].first())
        table = table if "instance" in steps else with_pauses(table, steps)
        return table.reset_index(drop=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Three areas, one below the other."""
        from matplotlib.ticker import MaxNLocator

        time = table["time_s"].to_numpy(float)
        requests, blocks, hits = panels(axes, ["Requests", "KV (%)", "Hits (%)"])
        for number, name in enumerate(("running", "waiting")):
            style = line_style(number)
            requests.plot(time, table[f"{name}_requests"], color=style.color, label=name,
                          drawstyle="steps-post", linestyle=style.linestyle)  # fmt: skip
        requests.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        legend(requests)
        for area, name in ((blocks, "kv_usage_share"), (hits, "hit_share")):
            area.plot(time, 100 * table[name].to_numpy(float), color=line_style(0).color,
                      drawstyle="steps-post", linewidth=0.8)  # fmt: skip
            most = 100 * float(table[name].max())
            area.set_ylim(0, 1.2 * most if 0 < most < LITTLE else 102)
        axes.set_xlabel("Simulated time (s)")
        axes.set_title("A service over time")

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """Room for three."""
        del table
        return (5.6, 4.8)


def with_pauses(table: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """``table`` with a row where a step ends and the next one begins later: nobody is there."""
    import pandas as pd

    ends = steps["end_ns"][steps["end_ns"] < steps["start_ns"].shift(-1)] / 1e9
    pauses = pd.DataFrame(dict.fromkeys(table, 0.0), index=ends.index)
    pauses = pauses.assign(time_s=ends, hit_share=np.nan)
    pauses["kv_usage_share"] *= table["kv_usage_share"].iloc[0]  # missing without a limit
    return pd.concat([table, pauses]).sort_values("time_s", kind="stable")


def of_instances(steps: pd.DataFrame, values: pd.Series[Any]) -> pd.DataFrame:
    """What ``values`` of ``steps`` are at each step of any instance, a column an instance: that of
    its last step, 0 before the first.
    """
    import pandas as pd

    if "instance" not in steps:
        return values.astype(float).to_frame()
    each = {one: values.where(steps["instance"] == one) for one in steps["instance"].unique()}
    before = 0.0 if values.notna().any() else float("nan")
    return pd.DataFrame(each).astype(float).ffill().fillna(before)
