"""What the time to the first token is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import faces
from moesim.report.drawing.times import shown_ms
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.components import cause_in_words
from moesim.report.run.served import NEEDS, served_requests

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PART = "ttft_"
GROUPS = {"fastest half": (0.0, 0.5), "all": (0.0, 1.0), "slowest tenth": (0.9, 1.0)}
"""Requests by how their TTFT ranks."""


class TtftWaterfall(Figure):
    """Mean time to the first token by cause, of the fastest half, all, and the slowest tenth."""

    kind = "ttft_waterfall"
    needs = NEEDS
    chart = Chart("bar", "value", "group", "series", r".*_ms", "ms")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row a group of requests: ``group`` and the milliseconds of each cause."""
        import pandas as pd

        requests = served_requests(self, folder, counted=True).sort_values("ttft_ms", kind="stable")
        causes = [c for c in map(str, requests) if c.startswith(PART) and c != "ttft_ms"]
        rows = []
        for name, (first, last) in GROUPS.items():
            begin = min(int(first * len(requests)), len(requests) - 1)
            own = requests.iloc[begin : max(int(np.ceil(last * len(requests))), begin + 1)]
            rows.append({"group": name} | {c.removeprefix(PART): own[c].mean() for c in causes})
        return pd.DataFrame(rows)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """A stacked bar a group; causes without a share are left out."""
        places, left = np.arange(len(table)), np.zeros(len(table))
        causes = [str(c) for c in table.columns if str(c).endswith("_ms") and table[c].max() > 0]
        looks = faces(cause.removesuffix("_ms") for cause in causes)
        per, unit = shown_ms(float(table[causes].sum(axis=1).max()))
        for column, (cause, look) in zip(causes, looks.items(), strict=True):
            width = table[column].to_numpy(float) / per
            axes.barh(
                places, width, left=left, height=0.7, label=cause_in_words(cause),
                facecolor=look.facecolor, hatch=look.hatch, edgecolor="#333333", linewidth=0.5,
            )  # fmt: skip
            left += width
        axes.set_yticks(places, list(table["group"]))
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"Time to the first token ({unit})")
        axes.set_title("What the first token waits for")
        legend(axes)
