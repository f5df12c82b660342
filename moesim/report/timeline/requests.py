"""Requests that are served, as tracks: queued, prompt, answer, preempted, handover."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from moesim.report.run.pieces import INSTANCE, pieces_of_requests

Event = dict[str, Any]
PROCESS = 3000
"""Behind those of GPUs."""


def request_events(tables: dict[str, pd.DataFrame], begin_ns: int, steps: range) -> Iterator[Event]:
    """Events of the requests with tokens in ``steps``, from ``begin_ns`` on; ``tables``:
    ``entries``, ``steps`` and ``requests`` of the run. None where its passes are of batches.
    """
    entries = tables["entries"]
    here = entries[entries["step"].between(steps.start, steps.stop - 1)]
    if here.empty:
        return
    yield {"ph": "M", "pid": PROCESS, "name": "process_name", "args": {"name": "requests"}}
    arrival = tables["requests"].set_index("request_id")["arrival_ns"]
    pieces = pieces_of_requests(here, tables["steps"])
    for request, own in pieces.groupby("request_id", sort=True):
        track = {"pid": PROCESS, "tid": PROCESS + int(str(request)) + 1}
        name = {"name": f"request {request}"}
        yield {"ph": "M", **track, "name": "thread_name", "args": name}
        spans = own.to_dict("records")
        first = entries[entries["request_id"] == request]["step"].min()
        came = max(int(arrival[request]), begin_ns)
        if first == spans[0]["step"] and came < spans[0]["start_ns"]:
            yield _event(track, "queued", came, spans[0]["start_ns"])
        yield from _of_request(track, spans)


def _of_request(track: Event, spans: list[dict[Any, Any]]) -> Iterator[Event]:
    instance = None
    for one in spans:
        last = one["first_token"] + one["tokens"]
        name = "answer" if one["decodes"] else f"tokens {one['first_token']}:{last}"
        args = {key: one[key] for key in ("step", "tokens", INSTANCE) if key in one}
        if one["handed"]:
            way = {"from": instance, "to": one[INSTANCE]}
            yield _event(track, "handover", one["idle_ns"], one["start_ns"], way)
        if one["preempted"]:
            yield _event(track, "preempted", one["idle_ns"], one["start_ns"])
        yield _event(track, name, one["start_ns"], one["end_ns"], args)
        instance = one.get(INSTANCE)


def _event(track: Event, name: str, start: int, end: int, args: Event | None = None) -> Event:
    times = {"ts": start / 1000, "dur": (end - start) / 1000}
    return {"ph": "X", **track, "name": name, "cat": "request", **times, "args": args or {}}
