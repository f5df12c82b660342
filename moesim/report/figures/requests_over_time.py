"""What each request waits for: a bar from its arrival to its last token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import fill
from moesim.report.drawing.times import shown_ms
from moesim.report.figures.base import Figure
from moesim.report.run.served import NEEDS, served_requests

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST = 80
MS = 1e-6
STAGES = {"queue_ms": "waits", "prompt_ms": "prompt", "answer_ms": "answer"}


class RequestsOverTime(Figure):
    """A bar a request, in order of arrival: waiting, prompt, answer."""

    kind = "requests_over_time"
    needs = NEEDS

    def prepare(self, folder: Path) -> pd.DataFrame:
        """Request, ``arrival_ms``, and how long it waits (``queue_ms``), until its first token
        (``prompt_ms``) and its last (``answer_ms``), and whether it was ``preempted`` meanwhile; at
        most the first 80.
        """
        import pandas as pd

        requests = served_requests(self, folder).head(MOST)
        queue = requests["queue_ms"].astype(float)
        return pd.DataFrame({
            "request": requests["request_id"].astype(str),
            "arrival_ms": requests["arrival_ns"].astype(float) * MS,
            "queue_ms": queue,
            "prompt_ms": requests["ttft_ms"].astype(float) - queue,
            "answer_ms": (requests["e2el_ms"] - requests["ttft_ms"]).astype(float),
            "preempted": requests["preemptions"].astype(int) > 0,
        })  # fmt: skip

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """The first request on top."""
        from matplotlib.ticker import MaxNLocator

        per, unit = shown_ms(float(table[["arrival_ms", *STAGES]].sum(axis=1).max()))
        places, left = range(len(table)), table["arrival_ms"].to_numpy(float) / per
        for number, (name, words) in enumerate(STAGES.items()):
            width, look = table[name].to_numpy(float) / per, fill(number)
            axes.barh(
                places, width, left=left, height=0.85, label=words, facecolor=look.facecolor,
                hatch=look.hatch, edgecolor="#333333", linewidth=0.2,
            )  # fmt: skip
            left = left + width
        lost = table["preempted"].to_numpy(bool)
        if lost.any():
            axes.plot(
                left[lost], [place for place in places if lost[place]], linestyle="none",
                marker="x", markersize=4, color="#000000", label="was preempted",
            )  # fmt: skip
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set_xlabel(f"Time ({unit})")
        axes.set_ylabel("Request, by arrival")
        cut = f", first {MOST}" if len(table) == MOST else ""
        axes.set_title(f"Requests over time{cut}")
        legend(axes)
