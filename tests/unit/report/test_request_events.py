"""Requests as tracks of a timeline, by hand."""

from __future__ import annotations

import pandas as pd

from moesim.report.timeline.requests import request_events


def tables() -> dict[str, pd.DataFrame]:
    """Request 1 comes at 5 ns, is preempted after step 1 and computed again in step 3."""
    rows = [(0, 0, 0, 4, False), (1, 0, 4, 1, True), (1, 1, 0, 2, False), (3, 1, 0, 3, False)]
    columns = ["step", "request_id", "first_token", "tokens", "decodes"]
    steps = {"step": range(4), "start_ns": [0, 10, 20, 30], "end_ns": [10, 18, 30, 40]}
    return {
        "entries": pd.DataFrame(rows, columns=columns),
        "steps": pd.DataFrame(steps),
        "requests": pd.DataFrame({"request_id": [0, 1], "arrival_ns": [0, 5]}),
    }


def told(steps: range) -> list[tuple[int, str, float, float]]:
    events = request_events(tables(), 0, steps)
    return [(e["tid"] - 3001, e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]


def test_what_becomes_of_requests() -> None:
    assert told(range(4)) == [
        (0, "tokens 0:4", 0.0, 0.01),
        (0, "answer", 0.01, 0.008),
        (1, "queued", 0.005, 0.005),
        (1, "tokens 0:2", 0.01, 0.008),
        (1, "preempted", 0.018, 0.012),
        (1, "tokens 0:3", 0.03, 0.01),
    ]


def test_only_the_steps_that_are_asked_for() -> None:
    assert told(range(3, 4)) == [(1, "tokens 0:3", 0.03, 0.01)]
    assert told(range(2, 3)) == []
