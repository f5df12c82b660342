"""Spans as events of the Chrome trace format: a process a GPU, a track an engine.

Source: Trace Event Format, Google, 2016 (times in microseconds).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from operator import attrgetter
from typing import Any

import pandas as pd

from moesim.engine.outcome import Span
from moesim.results.result import memory_categories

ENGINES: Mapping[str, str] = {
    "compute": "GPU time",
    "communication": "collectives",
    "copy_in": "copies H2D",
    "storage": "reads of storage",
    "read": "zero-copy reads H2D",
    "rows_in": "rows H2D",
    "rows_out": "rows D2H",
    "host": "host thread",
    "cpu": "CPU experts",
}
"""The engines of a GPU, at most ten, and the names of their tracks, from the top."""

Event = dict[str, Any]


def trace_events(
    table: pd.DataFrame, memory: pd.DataFrame, slots: pd.DataFrame, roles: Sequence[str] = ()
) -> Iterator[Event]:
    """Events of the spans in ``table`` and, as far as they go, of ``memory`` and ``slots`` (tables
    of a result); ``roles``: what each GPU is there for, where several engines run.

    Names of processes and tracks (``ph: M``); a complete event a span (``X``), with its step, layer
    and experts in ``args``; an arrow from each copy to the kernel that it was for (``s``, ``f``);
    counters (``C``): what copies move, experts in slots, and memory by category.
    """
    columns = (table[name].tolist() for name in Span._fields)
    spans = sorted(map(Span._make, zip(*columns, strict=True)), key=attrgetter("gpu", "start_ns"))
    yield from _names(spans, roles)
    yield from map(_complete, spans)
    yield from _arrows(spans)
    yield from _rates(spans)
    yield from _slots(spans, slots)
    yield from _memory(spans, memory)


def _process(gpu: int) -> int:
    """Perfetto shows the number behind the name, and takes 0 for the idle process."""
    return 1000 + gpu


def _track(gpu: int, engine: str) -> Event:
    return {"pid": _process(gpu), "tid": 10 * gpu + list(ENGINES).index(engine) + 1}


def _names(spans: Sequence[Span], roles: Sequence[str]) -> Iterator[Event]:
    """Names and order of GPUs, and of the engines that did something there."""
    for gpu in sorted({span.gpu for span in spans}):
        name = f"GPU {gpu}" + (f", {roles[gpu]}" if roles else "")
        yield from _named({"pid": _process(gpu)}, "process", name, gpu)
    for order, (engine, name) in enumerate(ENGINES.items()):
        for gpu in sorted({span.gpu for span in spans if span.engine == engine}):
            yield from _named(_track(gpu, engine), "thread", name, order)


def _named(where: Event, what: str, name: str, order: int) -> Iterator[Event]:
    for key, args in (("name", {"name": name}), ("sort_index", {"sort_index": order})):
        yield {"ph": "M", **where, "name": f"{what}_{key}", "args": args}


def _complete(span: Span) -> Event:
    args: Event = {"step": span.step}
    args |= {"layer": span.layer} if span.layer >= 0 else {}
    args |= {"experts": span.experts} if span.experts else {}
    args |= {"bytes": span.bytes} if span.bytes else {}
    return {
        "ph": "X",
        **_track(span.gpu, span.engine),
        "name": span.name,
        "cat": span.category,
        "ts": span.start_ns / 1000,
        "dur": (span.end_ns - span.start_ns) / 1000,
        "args": args,
    }


def _arrows(spans: Sequence[Span]) -> Iterator[Event]:
    """From each copy of an expert to the kernel that ran it in that step, where one did."""
    copies = {
        (one.gpu, one.step, one.layer, one.experts): one for one in spans if one.engine == "copy_in"
    }
    numbers = count(1)
    for kernel in (one for one in spans if one.engine == "compute" and one.name == "experts"):
        for expert in kernel.experts.split(","):
            copy = copies.get((kernel.gpu, kernel.step, kernel.layer, expert))
            if copy is not None:
                both = {"cat": "copy", "name": "weights", "id": next(numbers)}
                yield {"ph": "s", **_start(copy), **both}
                yield {"ph": "f", **_start(kernel), **both, "bp": "e"}


def _start(span: Span) -> Event:
    return {**_track(span.gpu, span.engine), "ts": span.start_ns / 1000}


def _rates(spans: Sequence[Span]) -> Iterator[Event]:
    """What moves on its way to each GPU in GB/s, each copy at its mean rate, where it changes."""
    changes: dict[tuple[int, int], float] = defaultdict(float)
    for span in (one for one in spans if one.bytes):
        rate = span.bytes / (span.end_ns - span.start_ns)
        changes[span.gpu, span.start_ns] += rate
        changes[span.gpu, span.end_ns] -= rate
    now: dict[int, float] = defaultdict(float)
    for gpu, time in sorted(changes):
        now[gpu] += changes[gpu, time]
        moved = {"GB/s": max(round(now[gpu], 6), 0.0)}
        yield _counter(_process(gpu), "expert weights H2D", time, moved)


def _slots(spans: Sequence[Span], slots: pd.DataFrame) -> Iterator[Event]:
    """Experts in slots of each GPU, at the begin of ``spans`` and whenever that changes."""
    begin, end = _within(spans)
    for gpu in sorted({span.gpu for span in spans}):
        part = slots[(slots["gpu"] == gpu) & (slots["time_ns"] < end)]
        values = dict(zip(part["time_ns"].clip(lower=begin), part["experts"].tolist(), strict=True))
        for time, experts in values.items():
            yield _counter(_process(gpu), "in slots", int(time), {"experts": experts})


def _within(spans: Sequence[Span]) -> tuple[int, int]:
    """From the first begin to the end of the last pass."""
    ends = (span.end_ns for span in spans if span.engine == "compute")
    return min(span.start_ns for span in spans), max(ends)


def _memory(spans: Sequence[Span], memory: pd.DataFrame) -> Iterator[Event]:
    """The fullest GPU's bytes by category, at the start of each step of ``spans``."""
    begin, end = _within(spans)
    shown = memory[(memory["time_ns"] >= begin) & (memory["time_ns"] < end)]
    pid = _process(max(span.gpu for span in spans) + 1)
    yield from _named({"pid": pid}, "process", "memory of the fullest GPU", pid)
    for name in (name for name in memory_categories(shown) if shown[name].any()):
        for time, amount in zip(shown["time_ns"].tolist(), shown[name].tolist(), strict=True):
            yield _counter(pid, name.replace("_", " "), time, {"bytes": amount})


def _counter(pid: int, name: str, time_ns: int, args: Event) -> Event:
    return {"ph": "C", "pid": pid, "tid": 0, "name": name, "ts": time_ns / 1000, "args": args}
