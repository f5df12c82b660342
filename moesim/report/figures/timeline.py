"""What each engine of each GPU does during a pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from moesim.report.advice.chosen_run import run_of
from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import faces
from moesim.report.figures.base import Figure
from moesim.report.run.components import cause_in_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_SPANS, MOST_GPUS = 700, 4
"""What is drawn of a pass: the longest, of the first GPUs."""
LEAST_SHARE = 1 / 2000
"""Of what is across; neighbours of one kind that are closer are one."""
COPIED = {"copy": "weights"}
"""Categories of spans by what other figures call them."""


class Timeline(Figure):
    """The spans of a pass, a row an engine of a GPU; of a sweep its best point's."""

    kind = "timeline"
    needs = "a run, or a sweep with a point that ran to its end, with 'records: expert'"

    step: int | None = Field(default=None, ge=0, description="Which pass [the one in the middle]")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """``track`` (GPU and engine), ``category``, ``start_ms`` and ``end_ms`` since the pass
        began, of the first four GPUs; the 700 longest, neighbours of one kind as one.
        """
        from moesim.results import read_result

        name, run = run_of(self, folder)
        spans = read_result(run).spans
        if spans.empty:
            raise self.unsuitable(folder, "its run recorded no spans")
        known = spans["step"].unique()
        which = int(np.sort(known)[len(known) // 2]) if self.step is None else self.step
        spans = spans[(spans["step"] == which) & (spans["gpu"] < MOST_GPUS)]
        if spans.empty:
            raise self.unsuitable(folder, f"its run recorded no pass {which}")
        return _table(spans).assign(run=name, **{"pass": f"pass {which:,}"})

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Bars in rows, GPUs from the top, engines as in a timeline."""
        tracks = list(dict.fromkeys(table["track"]))
        looks = faces(COPIED.get(one, one) for one in table["category"].unique())
        for category in table["category"].unique():
            own, look = table[table["category"] == category], looks[COPIED.get(category, category)]
            axes.barh(
                [tracks.index(track) for track in own["track"]], own["end_ms"] - own["start_ms"],
                left=own["start_ms"], height=0.72, facecolor=look.facecolor, hatch=look.hatch,
                edgecolor="#333333", linewidth=0.2, label=cause_in_words(str(category)),
            )  # fmt: skip
        axes.set_yticks(range(len(tracks)), tracks)
        axes.set_ylim(len(tracks) - 0.5, -0.5)
        axes.set_xlim(0, float(table["end_ms"].max()))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Since the pass began (ms)")
        what, run = f"What runs when, {table['pass'].iloc[0]}", table["run"].iloc[0]
        axes.set_title(f"{what}: {run}" if isinstance(run, str) and run else what)
        legend(axes, handleheight=1.2, handlelength=2.0)

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """As high as its rows, and the names beside them, need."""
        rows, kinds = table["track"].nunique(), table["category"].nunique()
        return (7.2, max(1.6, 0.34 * rows + 0.3, 0.24 * kinds))


def _table(spans: pd.DataFrame) -> pd.DataFrame:
    """Spans of one pass in the order of their rows, as few as can be told apart."""
    import pandas as pd

    from moesim.report.timeline.events import ENGINES

    begin = spans["start_ns"].min()
    width = spans["end_ns"].max() - begin
    order = {engine: place for place, engine in enumerate(ENGINES)}
    spans = spans.assign(place=spans["engine"].map(order))
    spans = spans.sort_values(["gpu", "place", "start_ns"], kind="stable").reset_index(drop=True)
    same = spans[["gpu", "engine", "category"]] == spans[["gpu", "engine", "category"]].shift()
    near = spans["start_ns"] - spans["end_ns"].shift() <= width * LEAST_SHARE
    group = (~(same.all(axis=1) & near)).cumsum()
    joined = spans.groupby(group).agg(
        gpu=("gpu", "first"), row=("engine", "first"), category=("category", "first"),
        start=("start_ns", "min"), end=("end_ns", "max"),
    )  # fmt: skip
    kept = (joined["end"] - joined["start"]).nlargest(MOST_SPANS).index.sort_values()
    joined = joined.loc[kept]
    return pd.DataFrame({
        "track": [f"GPU {g}, {ENGINES.get(e, e)}" for g, e in
                  zip(joined["gpu"], joined["row"], strict=True)],
        "category": joined["category"].astype(str),
        "start_ms": (joined["start"] - begin) / 1e6,
        "end_ms": (joined["end"] - begin) / 1e6,
    }).reset_index(drop=True)  # fmt: skip
