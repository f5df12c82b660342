"""Requests that are served, as tracks: queued, prompt, answer, preempted, handover."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pandas as pd

Event = dict[str, Any]
PROCESS = 3000
"""Behind those of GPUs."""
INSTANCE = "instance"


def request_events(tables: dict[str, pd.DataFrame], begin_ns: int, steps: range) -> Iterator[Event]:
    """Events of the requests with tokens in ``steps``, from ``begin_ns`` on; ``tables``:
    ``entries``, ``steps`` and ``requests`` of the run. None where its passes are of batches.
    """
    entries = tables["entries"]
    here = entries[entries["step"].between(steps.start, steps.stop - 1)]
    if here.empty:
        return
    yield {"ph": "M", "pid": PROCESS, "name": "process_name", "args": {"name": "requests"}}
    times = tables["steps"].set_index("step")
    times = times[[name for name in ("start_ns", "end_ns", INSTANCE) if name in times]]
    arrival = tables["requests"].set_index("request_id")["arrival_ns"]
    for request, own in here.groupby("request_id", sort=True):
        track = {"pid": PROCESS, "tid": PROCESS + int(str(request)) + 1}
        name = {"name": f"request {request}"}
        yield {"ph": "M", **track, "name": "thread_name", "args": name}
        spans = own.join(times, on="step").to_dict("records")
        first = entries[entries["request_id"] == request]["step"].min()
        came = max(int(arrival[request]), begin_ns)
        if first == spans[0]["step"] and came < spans[0]["start_ns"]:
            yield _event(track, "queued", came, spans[0]["start_ns"])
        yield from _of_request(track, spans)


def _of_request(track: Event, spans: list[dict[Any, Any]]) -> Iterator[Event]:
    for one in spans:
        last = one["first_token"] + one["tokens"]
        name = "answer" if one["decodes"] else f"tokens {one['first_token']}:{last}"
        args = {key: one[key] for key in ("step", "tokens", INSTANCE) if key in one}
        yield _event(track, name, one["start_ns"], one["end_ns"], args)
    for one, after in pairwise(spans):
        if one.get(INSTANCE) != after.get(INSTANCE):
            way = {"from": one[INSTANCE], "to": after[INSTANCE]}
            yield _event(track, "handover", one["end_ns"], after["start_ns"], way)
        again = not after["decodes"] and after["first_token"] <= one["first_token"]
        if again and one["end_ns"] < after["start_ns"]:
            yield _event(track, "preempted", one["end_ns"], after["start_ns"])


def _event(track: Event, name: str, start: int, end: int, args: Event | None = None) -> Event:
    times = {"ts": start / 1000, "dur": (end - start) / 1000}
    return {"ph": "X", **track, "name": name, "cat": "request", **times, "args": args or {}}
