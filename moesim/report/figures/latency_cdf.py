"""How long requests take: the share of them that is served within a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import line_style, plain_numbers
from moesim.report.figures.base import Chart, Figure
from moesim.report.run.served import NEEDS, served_requests, served_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LATENCIES = {
    "tpot_ms": "TPOT",
    "max_itl_ms": "largest ITL",
    "ttft_ms": "TTFT",
    "e2el_ms": "E2EL",
}


POINTS = 1000
"""Shares of the gaps between tokens that are shown at most."""


def _gaps(itl: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Of the gaps between tokens ``itl`` those of the ``requests``, one as often as it comes: the
    least time within which each share of them is.
    """
    import pandas as pd

    itl = itl[itl["request_id"].isin(requests["request_id"])]
    values, counts = np.unique(itl["itl_ns"].to_numpy(np.int64), return_counts=True)
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    if len(share) > POINTS:
        some = np.searchsorted(share, np.arange(1, POINTS + 1) / POINTS - 1e-12)
        values, share = values[some], share[some]
    return pd.DataFrame({"latency": "ITL", "latency_ms": values / 1e6, "requests_share": share})


class LatencyCdf(Figure):
    """Shares of the requests over TTFT, TPOT, largest gap between tokens, and end-to-end time, and
    of all gaps between tokens.
    """

    kind = "latency_cdf"
    needs = NEEDS
    chart = Chart("line", "latency_ms", "requests_share", "latency")

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row a request and latency: ``latency``, ``latency_ms``, ``requests_share`` of those
        that take no longer; of all gaps between tokens, where the run kept them (``records: layer``
        and finer), a row each of up to ``POINTS`` shares.
        """
        import pandas as pd

        result = served_run(self, folder)
        requests = served_requests(self, folder, counted=True, result=result)
        parts = []
        for name, words in LATENCIES.items():
            values = np.sort(requests[name].dropna().to_numpy(float))
            share = np.arange(1, len(values) + 1) / max(len(values), 1)
            row = {"latency": words, "latency_ms": values, "requests_share": share}
            parts.append(pd.DataFrame(row))
            if name == "tpot_ms":
                parts.append(_gaps(result.itl, requests))
        return pd.concat([one for one in parts if len(one)], ignore_index=True)

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
        axes.set_ylabel("Requests (ITL: gaps) within it (%)")
        axes.set_title("Latency of requests")
        legend(axes)
