"""What the GPUs' time goes to, by operation, and what its prices rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.advice.chosen_run import run_of
from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import faces
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.components import PRICED_BY, cause_in_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_BARS = 20
REST = "all others"
SHARE = "_share"
WORDS = PRICED_BY | {"outside": "outside what was measured", "no_price": "no price"}
"""Of what prices rest on, where it is not called that."""


class TimeByOperation(Figure):
    """Shares of the GPUs' time by operation, by what its prices rest on; of a sweep its best
    point.
    """

    kind = "time_by_operation"
    needs = "a run, or a sweep with a point that ran to its end, with records of steps"
    chart = Chart("bar", "value", "work", "series", r".*_share", "share of the GPUs' time")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """``work`` in words, the longest first, and its share of the GPUs' time by what that rests
        on (``software_share``: the host's, by its profile; ``no_price_share``: waiting for GPUs,
        idle time); beyond 20, all others as one.
        """
        import pandas as pd

        from moesim.results import read_result

        name, run = run_of(self, folder)
        table = read_result(run).operations
        if table.empty:
            raise self.unsuitable(folder, "its run has no table of operations")
        sources = [str(c) for c in table if str(c).endswith("_ns") and c != "time_ns"]
        free, host = table["time_ns"] - table[sources].sum(axis=1), table["charge"] == "host"
        parts = table[sources].assign(
            software_ns=free.where(host, 0), no_price_ns=free.mask(host, 0)
        )
        shares = parts.rename(columns=lambda c: c.removesuffix("_ns") + SHARE)
        shares = shares.div(table["time_ns"].sum()).clip(lower=0)
        every = shares.assign(work=[*map(_in_words, table["charge"], table["operation"])])
        first, rest = every.head(MOST_BARS), every.iloc[MOST_BARS:]
        if len(rest):
            last = pd.DataFrame([{"work": REST, **rest.drop(columns="work").sum()}])
            first = pd.concat([first, last], ignore_index=True)
        return first[["work", *shares]].assign(run=name)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Bars from the top, the longest first, with their share at their ends."""
        places, left = np.arange(len(table)), np.zeros(len(table))
        names = [str(c) for c in table if str(c).endswith(SHARE) and table[c].any()]
        looks = faces(name.removesuffix(SHARE) for name in names)
        for name, (source, look) in zip(names, looks.items(), strict=True):
            width = 100 * table[name].to_numpy(float)
            axes.barh(
                places, width, left=left, height=0.75, facecolor=look.facecolor, hatch=look.hatch,
                label=WORDS.get(source, source), edgecolor="#333333",
                linewidth=0.5,
            )  # fmt: skip
            left = left + width
        for place, share in enumerate(left.tolist()):
            axes.text(share, place, f" {share:.1f} %", va="center", fontsize=9)
        axes.set_yticks(places, table["work"].astype(str).tolist())
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, 1.18 * float(left.max()))
        axes.set_xlabel("Share of the GPUs' time (%)")
        run, what = table["run"].iloc[0], "What takes the time, and what its prices rest on"
        axes.set_title(f"{what}: {run}" if isinstance(run, str) and run else what)
        legend(axes, handleheight=1.4, handlelength=2.2)

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """As high as the bars need."""
        return (5.6, max(1.9, 0.3 * len(table) + 0.4))


def _in_words(charge: str, operation: str) -> str:
    """An operation, and what its time is charged to where that is another word."""
    own = cause_in_words(operation or charge)
    return (
        own if charge in ("", operation) or not operation else f"{own} ({cause_in_words(charge)})"
    )
