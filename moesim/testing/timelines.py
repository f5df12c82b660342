"""The rules of the Chrome trace format that a timeline keeps to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

KEYS = {
    "M": {"pid", "args"},
    "X": {"pid", "tid", "ts", "dur", "cat", "args"},
    "C": {"pid", "ts", "args"},
    "s": {"pid", "tid", "ts", "cat", "id"},
    "f": {"pid", "tid", "ts", "cat", "id", "bp"},
}
"""What events of each phase have beside ``ph`` and ``name``."""


def check_timeline(trace: dict[str, Any]) -> None:
    """Raise AssertionError at the first event of ``trace`` (the file's JSON) that breaks a rule.

    Every event has the keys of its phase; times are numbers from 0 on; processes and tracks have
    one name and place each; spans of a track follow one another; arrows have both ends, each at the
    start of a span, and never go back in time; counters are numbers, in order.
    """
    assert trace["displayTimeUnit"] == "ns"
    events = trace["traceEvents"]
    for event in events:
        assert event["ph"] in KEYS, f"unknown phase: {event}"
        assert KEYS[event["ph"]] <= event.keys() - {"ph", "name"}, f"keys are missing: {event}"
        assert isinstance(event["name"], str), event
        assert event["name"], f"has no name: {event}"
        for key in ("ts", "dur"):
            value = event.get(key, 0)
            assert type(value) in (int, float), f"{key} is no number: {event}"
            assert value >= 0, f"{key} is below 0: {event}"
    by_phase = defaultdict(list)
    for event in events:
        by_phase[event["ph"]].append(event)
    _check_names(events, by_phase["M"])
    _check_tracks(by_phase["X"])
    _check_arrows(by_phase["X"], by_phase["s"], by_phase["f"])
    _check_counters(by_phase["C"])


def _check_names(events: Sequence[dict[str, Any]], named: Sequence[dict[str, Any]]) -> None:
    said = Counter((one["name"], one["pid"], one.get("tid")) for one in named)
    assert set(said.values()) <= {1}, f"named twice: {said.most_common(1)}"
    for event in events:
        for what in ("name", "sort_index"):
            assert ("process_" + what, event["pid"], None) in said, f"process: {event}"
            track = ("thread_" + what, event["pid"], event.get("tid"))
            assert event["ph"] not in "Xsf" or track in said, f"track: {event}"


def _check_tracks(spans: Sequence[dict[str, Any]]) -> None:
    ends: dict[tuple[int, int], int] = defaultdict(int)
    for span in spans:
        track, start = (span["pid"], span["tid"]), nanoseconds(span)
        assert start >= ends[track], f"begins before the one before has ended: {span}"
        ends[track] = start + round(span["dur"] * 1000)


def _check_arrows(
    spans: Sequence[dict[str, Any]], begins: Sequence[dict[str, Any]],
    ends: Sequence[dict[str, Any]],
) -> None:  # fmt: skip
    starts = {(span["pid"], span["tid"], span["ts"]) for span in spans}
    for one in (*begins, *ends):
        assert (one["pid"], one["tid"], one["ts"]) in starts, f"binds to no span: {one}"
    first = {one["id"]: one for one in begins}
    assert len(first) == len(begins) == len(ends), "an arrow has one end"
    for end in ends:
        assert first[end["id"]]["ts"] <= end["ts"], f"goes back in time: {end}"


def _check_counters(values: Sequence[dict[str, Any]]) -> None:
    latest: dict[tuple[int, str], int] = {}
    for value in values:
        key, time = (value["pid"], value["name"]), nanoseconds(value)
        assert latest.get(key, -1) < time, f"is not in order: {value}"
        latest[key] = time
        assert all(type(one) in (int, float) for one in value["args"].values()), value


def nanoseconds(event: dict[str, Any]) -> int:
    """When ``event`` begins."""
    time_ns: int = round(event["ts"] * 1000)
    return time_ns
