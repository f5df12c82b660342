"""One run of ``moesim calibrate collect``: plan, measure, keep, say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd

from moesim.calibrate.collect.device import Device
from moesim.calibrate.collect.machine import MACHINE, machine_facts
from moesim.calibrate.collect.measure import Measurement, Series, rows_of
from moesim.calibrate.collect.point import Point, key_of
from moesim.config.errors import InputError, Problem
from moesim.hardware.measurements.table import read_table, write_table
from moesim.hardware.measurements.validate import LINE

SAVE_EVERY_S = 5.0
LEAST_SHARE = 0.5
"""Of the time, what is left to measuring however long the start took."""
MEASURED = ("latency_ns", "interval_percent", "spread_percent", "repeats")
SAME = ("device", "framework", "version", "source")
Progress = Callable[["Session", Series], None]


@dataclass
class Session:
    """Points of a device, measured into the table ``out``, which is written every few seconds."""

    device: Device
    points: Sequence[Point]
    out: Path
    version: str
    clock: Callable[[], float] = monotonic
    series: list[Series] = field(init=False)
    others: list[dict[str, Any]] = field(default_factory=list)
    started_at: float = field(init=False)
    saved_at: float = field(init=False)
    written: tuple[int, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.series = [Series(point) for point in self.points]
        self.facts = machine_facts(self.device, self.version)
        self.started_at = self.saved_at = self.clock()

    @property
    def common(self) -> dict[str, str]:
        """The columns that all rows share."""
        source = f"moesim calibrate collect, {self.facts['measured']}"
        values = (self.device.name, "torch", self.version, source)
        return dict(zip(SAME, values, strict=True))

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started_at

    def resume(self) -> int:
        """Take over the rows of the table that is there; how many.

        InputError where it was measured on another device or with another version.
        """
        frame = read_table(self.out).drop(columns=LINE)
        for name in SAME[:3]:
            found = frame[name].fillna("") if name in frame.columns else [""] * len(frame)
            if others := set(found) - {self.common[name]}:
                what = f"was measured with {name} '{others.pop()}', not '{self.common[name]}'"
                raise InputError([Problem(str(self.out), name, f"{what}; give another --out")])
        records: list[dict[str, Any]] = [
            {str(name): value for name, value in row.items() if _given(value)}
            for row in frame.to_dict("records")
        ]
        rows = {_key(row): row for row in records}
        for series in self.series:
            series.earlier = rows.get(series.point.key)
        known = {series.point.key for series in self.series}
        self.others = [row for key, row in rows.items() if key not in known]
        self.written = _state(self.out)
        return len(rows)

    def measure(self, minutes: float, progress: Progress) -> None:
        """Measure for ``minutes``; the table is written also when this is interrupted."""

        def after_visit(series: Series) -> None:
            progress(self, series)
            if self.clock() - self.saved_at >= SAVE_EVERY_S:
                self.save()

        try:
            left = max(minutes * 60 - self.elapsed_s, LEAST_SHARE * minutes * 60)
            Measurement(self.device, self.series, left, self.clock, after_visit).run()
        finally:
            self.save()

    def table(self) -> pd.DataFrame:
        """What was measured so far."""
        rows = [*self.others, *({**self.common, **row} for row in rows_of(self.series))]
        frame = pd.DataFrame(rows)
        frame.attrs = {MACHINE: self.facts}
        return frame

    def save(self) -> None:
        """Write the table beside ``out`` and move it there, so that a kill leaves a whole one.

        InputError where another process wrote there since.
        """
        self.saved_at = self.clock()
        if (frame := self.table()).empty:
            return
        if _state(self.out) not in (None, self.written):
            what = "was written by another process meanwhile; give each its own --out"
            raise InputError([Problem(str(self.out), "", what)])
        part = self.out.with_name(f".{self.out.stem}.{os.getpid()}.part.parquet")
        write_table(frame, part)
        part.replace(self.out)
        self.written = _state(self.out)

    def notes(self) -> list[str]:
        """What was not measured, and why, in a line each."""
        failures = Counter(
            (str(s.point.columns["op"]), str(s.point.columns.get("kernel_source")), s.failure)
            for s in self.series
            if s.failure is not None
        )
        lines = [
            f"{op} {kernel}: {count} not measured: {why}"
            for (op, kernel, why), count in failures.items()
        ]
        missed = sum(not series.turns and series.failure is None for series in self.series)
        if missed:
            lines.append(f"{missed} of {len(self.series)} not reached: give more --minutes")
        return lines


def _key(row: dict[str, Any]) -> str:
    left_out = (*SAME, *MEASURED)
    return key_of({name: value for name, value in row.items() if name not in left_out})


def _state(path: Path) -> tuple[int, int] | None:
    """What tells one version of a file from the next; None where there is none."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _given(value: Any) -> bool:
    return hasattr(value, "__len__") or bool(pd.notna(value))
