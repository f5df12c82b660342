"""What the numbers of a run or a sweep rest on, a line each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from moesim.hardware.operations.experts.error import PriceError
from moesim.metrics.price_interval import TIMED, TIMES, told_shares
from moesim.report.amounts import number, percent
from moesim.report.run.components import PRICED_BY

SPEEDS = ("output_throughput", "total_token_throughput")
LEAST = 0.005
"""Share of the time below which nothing is said of a part."""
MOST_TOLD = 3
NUMBER = re.compile(r"(?<![\w.-])\d[\d.,]*")
"""Alone, and no part of a name."""
MOST_OUTSIDE = 0.1
"""Share of the time on prices outside of what was measured, beyond which a run warns."""


def provenance_line(summary: Mapping[str, Any]) -> list[str]:
    """What the priced time of one run rests on."""
    known = {name: share for name, share in told_shares(summary).items() if share}
    texts = (f"{percent(share)} {PRICED_BY.get(name, name)}" for name, share in known.items())
    return ["time rests on prices: " + ", ".join(texts)] if known else []


def trust_lines(summary: Mapping[str, Any]) -> list[str]:
    """How wrong such prices were; a warning where too much lies outside of what was measured."""
    shares = summary.get("price_share") or {}
    lines = [
        f"note: {of}: {note}"
        for of in (
            "model",
            "host",
            "routing",
            "placement",
            "speculation",
            "energy",
            "cost",
            "quality",
        )
        for note in summary.get(f"{of}_notes") or ()
    ]
    if (error := summary.get("price_error")) and summary["status"] == "ok":
        lines.append(PriceError(**error).text)
    if shares.get("outside", 0.0) > MOST_OUTSIDE:
        lines.append(
            "warning: more than a tenth of the time rests on shapes outside of what the profile"
            " measured (price_share.outside); 'moesim calibrate collect' measures yours"
        )
    return lines


def interval_line(summary: Mapping[str, Any]) -> list[str]:
    """What the intervals of one run were made from, or why there are none."""
    made = summary.get("intervals")
    if not made:
        return []
    steps = "step" if made["warm_up_steps"] == 1 else "steps"
    share = percent(made["warm_up_share"])
    left_out = f"warm-up: {number(made['warm_up_steps'])} {steps} ({share})"
    if made["reason"]:
        return [f"no intervals: {made['reason']} ({left_out})"]
    blocks = {"batch": "batches", "steps": "blocks"}[made["block"]]
    size = f"{made['blocks']} {blocks} of {number(made['steps_per_block'], 3)} steps"
    what = f"[low, high]: {percent(made['confidence'])} intervals of sampling alone, over {size}"
    return [f"{what}; {left_out}"]


def price_interval_line(summary: Mapping[str, Any]) -> list[str]:
    """How far the speed moves with what prices like these were off by, and what that leaves out."""
    made = summary.get("price_interval")
    if not made or summary["status"] != "ok":
        return []
    rest, times = _left_out(made), _times_line(made)
    ends = _speed(made)
    if ends is None:
        why = f": {made['reason']}" if made.get("reason") else ""
        of = " of the throughput" if times else ""
        return [f"no interval of the prices{of}{why}{_untold(made)}{rest}", *times]
    limits = "{} [{}, {}] tokens/s".format(*(number(ends[key]) for key in ("value", "low", "high")))
    parts = [f"{_named(row)} {_off(row)}" for row in made["factors"] if _tells(row)]
    over = f", over {', '.join(parts[:MOST_TOLD])}" if parts else ""
    return [f"prices: {limits} ({percent(made['confidence'])}){over}{rest}", *times]


def price_range(summary: Mapping[str, Any]) -> list[str]:
    """Between which speeds it lies by what prices like these were off by, in a sentence."""
    made = summary.get("price_interval") or {}
    ends = _speed(made)
    if ends is None or summary["status"] != "ok":
        return []
    low, high = (number(ends[key]) for key in ("low", "high"))
    sure = percent(made["confidence"])
    return [f"By the prices' errors: {low} to {high} tokens/s ({sure}){_left_out(made)}."]


def _speed(made: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first speed above 0 that has an interval: of prompts where there are no answers."""
    return next((end for name in SPEEDS if (end := made.get(name) or {}).get("low")), None)


def _left_out(made: Mapping[str, Any]) -> str:
    """What the interval says nothing of, behind it."""
    unknown = [row for row in made["factors"] if row["low"] is None and row["share"] > LEAST]
    told = [_named(row, f"{percent(row['share'])} of time") for row in unknown]
    return f"; no error is known of {', '.join(told)}" if told else ""


def _untold(made: Mapping[str, Any]) -> str:
    """How to have the intervals of times that a long run is not played again for."""
    if made.get("reason") != TIMED or made["unknown_share"] == 1 or _times_line(made):
        return ""
    return "; of times to the first and between tokens: --set serving.price_interval=always"


def _times_line(made: Mapping[str, Any]) -> list[str]:
    """How far the mean times of requests move, where they have an interval."""
    known = {name: end for name in TIMES if (end := made.get(f"mean_{name}_ms")) is not None}
    told = []
    for name, end in known.items():
        value, low, high = (number(end[key]) for key in ("value", "low", "high"))
        told.append(f"{name.upper()} {value} [{low}, {high}]")
    return [f"prices: mean {', '.join(told)} ms ({percent(made['confidence'])})"] if told else []


def _named(row: Mapping[str, Any], *more: str) -> str:
    """What is off, with what its prices rest on."""
    inside = ", ".join(filter(None, (row.get("rests_on"), *more)))
    return f"{row['of']} ({inside})" if inside else row["of"]


def _tells(row: Mapping[str, Any]) -> bool:
    return row["low"] is not None and row["share"] > LEAST


def _off(row: Mapping[str, Any]) -> str:
    """How many percent longer or shorter it may take; and why never the one or the other."""
    low, high = (100 * (row[end] - 1) for end in ("low", "high"))
    known = {0: "fastest", 1: "slowest"}
    at = next((f" (priced at the {known[n]} known)" for n in known if not (low, high)[n]), "")
    return f"{low:+z.0f} to {high:+z.0f} %{at}"


SWEPT_NOTES = ("model_notes", "host_notes", "routing_notes", "placement_notes", "quality_notes")


def sweep_trust(points: pd.DataFrame) -> list[str]:
    """The same for all points of a sweep, each line once, and of many that differ in numbers alone
    the first.
    """
    lines: list[str] = []
    for _, row in points.iterrows():
        parts: dict[str, Any] = {"price_share": {}, "price_error": {}}
        for name in row.index[row.notna()]:
            part, _, key = str(name).partition(".")
            if part in parts:
                parts[part][key] = row[name]
        for key in SWEPT_NOTES:
            parts[key] = json.loads(row[key]) if row.notna().get(key) else []
        lines += trust_lines({"status": row["status"], **parts})
    return list(_first_of_many(dict.fromkeys(lines)))


def _first_of_many(lines: Iterable[str]) -> Iterator[str]:
    alike: dict[str, list[str]] = {}
    for line in lines:
        alike.setdefault(NUMBER.sub("", line), []).append(line)
    for first, *others in alike.values():
        many = len(others) >= MOST_TOLD
        yield f"{first} (and {len(others):,} more notes with other numbers)" if many else first
        yield from () if many else others
