"""What each request waits for: a bar from its arrival to its last token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import fill
from moesim.report.drawing.times import shown_ms
from moesim.report.figures.base import Figure
from moesim.report.run.pieces import pieces_of_requests
from moesim.report.run.served import NEEDS, served_requests, served_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST = 80
MS = 1e-6
WAITS, PROMPT, ANSWER, LOST, HANDED = "waits", "prompt", "answer", "preempted", "handover"
PARTS = (WAITS, PROMPT, ANSWER, LOST, HANDED)
MARK = "was preempted"
"""In place of when, where the run has no record of that."""


class RequestsOverTime(Figure):
    """A bar a request, in order of arrival: waiting, prompt in its chunks, answer, preempted."""

    kind = "requests_over_time"
    needs = NEEDS

    def prepare(self, folder: Path) -> pd.DataFrame:
        """A row for each part of each request's bar: which, from when (``begin_ms``) and how long
        (``lasts_ms``); at most of the first 80. Chunks, and when a request was preempted, where
        ``records`` are ``layer`` or finer.
        """
        import pandas as pd

        result = served_run(self, folder)
        requests = served_requests(self, folder, result=result).head(MOST).set_index("request_id")
        entries = result.entries[result.entries["request_id"].isin(requests.index)]
        known = _whole(requests) if entries.empty else _parts(entries, result.steps, requests)
        table, arrival = pd.concat(known, ignore_index=True), requests["arrival_ns"]
        table["came"] = arrival.reindex(table["request"]).to_numpy()
        order = ["came", "request", "begin_ms"]
        table = table.sort_values(order, kind="stable", ignore_index=True).drop(columns="came")
        return table.assign(request=table["request"].astype(str))

    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """The first request on top."""
        import pandas as pd
        from matplotlib.ticker import MaxNLocator

        per, unit = shown_ms(float((table["begin_ms"] + table["lasts_ms"]).max()))
        places, known = pd.factorize(table["request"])
        for number, part in enumerate(PARTS):
            of, look = table["part"] == part, fill(number)
            if (rows := table[of]).size:
                axes.barh(
                    places[of], rows["lasts_ms"] / per, left=rows["begin_ms"] / per, height=0.85,
                    label=part, facecolor=look.facecolor, hatch=look.hatch, edgecolor="#333333",
                    linewidth=0.2,
                )  # fmt: skip
        if (of := table["part"] == MARK).any():
            axes.plot(
                table[of]["begin_ms"] / per, places[of], linestyle="none", marker="x",
                markersize=4, color="#000000", label=MARK,
            )  # fmt: skip
        axes.set_ylim(len(known) - 0.4, -0.6)
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set_xlabel(f"Time ({unit})")
        axes.set_ylabel("Request, by arrival")
        axes.set_title(f"Requests over time{f', first {MOST}' if len(known) == MOST else ''}")
        legend(axes)


def _rows(part: str, request: object, begin_ms: object, end_ms: object) -> pd.DataFrame:
    import pandas as pd

    begin, end = np.asarray(begin_ms, np.float64), np.asarray(end_ms, np.float64)
    return pd.DataFrame({
        "request": np.asarray(request), "part": part, "begin_ms": begin, "lasts_ms": end - begin
    })  # fmt: skip


def _whole(requests: pd.DataFrame) -> list[pd.DataFrame]:
    """Three parts of each, by when it began and its first token came."""
    came = requests["arrival_ns"] * MS
    first, last = came + requests["ttft_ms"], came + requests["e2el_ms"]
    lost = requests[requests["preemptions"] > 0].index
    return [
        _rows(WAITS, requests.index, came, came + requests["queue_ms"]),
        _rows(PROMPT, requests.index, came + requests["queue_ms"], first),
        _rows(ANSWER, requests.index, first, last),
        _rows(MARK, lost, last[lost], last[lost]),
    ]


def _parts(
    entries: pd.DataFrame, steps: pd.DataFrame, requests: pd.DataFrame
) -> list[pd.DataFrame]:
    """By what each has of the steps: a part a chunk of its prompt, and one for the answer between
    two preemptions, the last to its last token.
    """
    pieces = pieces_of_requests(entries, steps)
    who, begins, ends = (pieces[name] for name in ("request_id", "start_ns", "end_ns"))
    came = requests["arrival_ns"] * MS
    began = begins.groupby(who).min() * MS
    answers = pieces[pieces["decodes"].astype(bool)]
    runs = (pieces["preempted"] | pieces["handed"]).groupby(who).cumsum()
    of_run = answers.groupby([answers["request_id"], runs[answers.index]])
    answered = of_run.agg({"start_ns": "min", "end_ns": "max"}).reset_index()
    last = ~answered["request_id"].duplicated(keep="last")
    seen = (came + requests["e2el_ms"]).reindex(answered["request_id"]).to_numpy()
    prompts, idle = ~pieces["decodes"].astype(bool), pieces["idle_ns"]
    return [
        _rows(WAITS, began.index, came.reindex(began.index), began),
        _rows(PROMPT, who[prompts], begins[prompts] * MS, ends[prompts] * MS),
        _rows(
            ANSWER, answered["request_id"], answered["start_ns"] * MS,
            np.where(last, seen, answered["end_ns"] * MS),
        ),
        *(
            _rows(part, who[of], idle[of] * MS, begins[of] * MS)
            for part, of in ((LOST, pieces["preempted"]), (HANDED, pieces["handed"]))
        ),
    ]  # fmt: skip
