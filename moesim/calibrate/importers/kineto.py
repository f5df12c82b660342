"""Kineto traces: ``torch.profiler``'s ``export_chrome_trace``, plain or gzipped.

CPU traces were checked with torch 2's own; GPU events by their documented fields. Times are of
the device alone: a copy's or kernel's duration, without the launch before it. A collective's kernel
waits for the slowest GPU too. Equal shapes are one row with the median time.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from typing import Any, ClassVar

import pandas as pd

from moesim.calibrate.importers.base import START_BYTES, File, Importer
from moesim.calibrate.importers.kineto_rows import (
    Event,
    collective,
    copy,
    launch,
    product,
)
from moesim.config.errors import InputError, Problem
from moesim.config.json_text import as_object, parse_json
from moesim.hardware.measurements.validate import LINE

GZIP = b"\x1f\x8b"
KEYS = ('"schemaVersion"', '"deviceProperties"')
COLUMNS = ("op", "dtype", "bytes", "gpus", "pinned", "m", "n", "k", "device", "kernel_source")
NS_PER_US = 1e3


class Kineto(Importer):
    """Copies, launches, products with their shapes, and collectives with their sizes."""

    kind: ClassVar[str] = "kineto"

    def recognises(self, file: File) -> bool:
        """By the keys at its start."""
        start = _start(file.content).lstrip()
        return start.startswith("{") and any(key in start for key in KEYS)

    def read(self, file: File) -> pd.DataFrame:
        """One row a shape; ``LINE`` is the place of its first event among the trace's, from 1."""
        trace = _trace(file)
        events = [event for event in trace["traceEvents"] if isinstance(event, dict)]
        kernels = _kernels_by_operator(events)
        devices = {str(one.get("id")): one.get("name") for one in trace.get("deviceProperties", [])}
        rows, left_out = [], Counter[str]()
        for number, event in enumerate(events, start=1):
            if event.get("ph") != "X":
                continue
            found = _row(event, kernels, on_gpu=bool(devices))
            if isinstance(found, str):
                left_out[found] += 1
            elif found is not None:
                device = devices.get(str(event.get("args", {}).get("device")), _only(devices))
                rows.append({"latency_ns": _ns(event)} | found | {"device": device, LINE: number})
        table = _medians(pd.DataFrame(rows, columns=[*COLUMNS, "latency_ns", LINE]))
        table["framework"], table["source"] = "torch", f"Kineto {file.name.rsplit('/', 1)[-1]}"
        table.attrs["left_out"] = dict(left_out)
        return table


def _start(content: bytes) -> str:
    if content[:2] == GZIP:
        try:
            content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, START_BYTES)
        except zlib.error:
            return ""
    return content[:START_BYTES].decode("utf-8", errors="ignore")


def _trace(file: File) -> dict[str, Any]:
    try:
        content = file.content
        text = gzip.decompress(content) if content[:2] == GZIP else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError([Problem(file.name, "", f"is no Kineto trace: {error}")]) from None
    trace = as_object(parse_json(text, file.name, strict=False), file.name)
    if not isinstance(trace.get("traceEvents"), list):
        raise InputError([Problem(file.name, "", "has no list 'traceEvents'")])
    return trace


def _kernels_by_operator(events: list[Event]) -> dict[object, list[Event]]:
    """The kernels that each operator launched, by its external id."""
    kernels: dict[object, list[Event]] = {}
    for event in events:
        if event.get("cat") == "kernel" and "External id" in event.get("args", {}):
            kernels.setdefault(event["args"]["External id"], []).append(event)
    return kernels


def _row(event: Event, kernels: dict[object, list[Event]], *, on_gpu: bool) -> Event | str | None:
    """The event's row, why it is none, or None where it is no measurement."""
    kind = event.get("cat")
    if kind == "gpu_memcpy":
        return copy(event)
    if kind in ("cuda_runtime", "cuda_driver"):
        return launch(event)
    if kind == "cpu_op":
        return product(event, kernels, on_gpu=on_gpu)
    return collective(event) if kind == "kernel" else None


def _only(devices: dict[str, Any]) -> Any:
    """The device of an event that names none: the trace's only kind."""
    names = set(devices.values())
    return names.pop() if len(names) == 1 else None


def _ns(event: Event) -> float:
    return float(event.get("dur", 0.0)) * NS_PER_US


def _medians(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each shape, in the order of their first events."""
    groups = table.groupby(list(COLUMNS), dropna=False, sort=False)
    return groups.agg({"latency_ns": "median", LINE: "first"}).reset_index()
