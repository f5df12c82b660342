"""How long requests take: the share of them that is served within a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import line_style, plain_numbers
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.served import NEEDS, served_requests

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LATENCIES = {
    "tpot_ms": "TPOT",
    "max_itl_ms": "largest ITL",
    "ttft_ms": "TTFT",
    "e2el_ms": "E2EL",
}


class LatencyCdf(Figure):
    """Shares of the requests over TTFT, TPOT, largest gap between tokens, and end-to-end time."""

    kind = "latency_cdf"
    needs = NEEDS
    chart = Chart("line", "latency_ms", "requests_share", "latency")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row a request and latency: ``latency``, ``latency_ms``, ``requests_share`` of those
        that take no longer.
        """
        import pandas as pd

        requests = served_requests(self, folder, counted=True)
        parts = []
        for name, words in LATENCIES.items():
            values = np.sort(requests[name].dropna().to_numpy(float))
            share = np.arange(1, len(values) + 1) / max(len(values), 1)
            row = {"latency": words, "latency_ms": values, "requests_share": share}
            parts.append(pd.DataFrame(row))
        return pd.concat(parts, ignore_index=True)

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """A staircase a latency, over a logarithmic time."""
        for number, (name, own) in enumerate(table.groupby("latency", sort=False)):
            style = line_style(number)
            x = own["latency_ms"].to_numpy(float)
            y = 100 * own["requests_share"].to_numpy(float)
            axes.plot(
                np.concatenate((x[:1], x)), np.concatenate(([0.0], y)), drawstyle="steps-post",
                color=style.color, linestyle=style.linestyle, label=str(name),
            )  # fmt: skip
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
        axes.set_ylim(0, 100)
        axes.set_xlabel("Latency (ms)")
        axes.set_ylabel("Requests within it (%)")
        axes.set_title("Latency of requests")
        legend(axes)
