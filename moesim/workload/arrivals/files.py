"""Arrivals that a file says: read, cut to a window, and brought to another rate."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.random import Generator
from pydantic import Field, field_validator

from moesim.config.errors import InputError, Problem
from moesim.config.files.inputs import files_read, read_input, tell
from moesim.config.files.paths import look_up, lookup_folders, not_found
from moesim.config.text import decoded
from moesim.config.units import Duration
from moesim.workload.arrivals.base import MOST_NS, Arrivals, Arrived, Prefixes, check_latest, whole
from moesim.workload.schedule import Ints
from moesim.workload.serving.state import NEVER

MOST_TOKENS = 1 << 30
Window = Annotated[list[Duration], Field(min_length=2, max_length=2)]


@dataclass
class Line:
    """A request: its instant in ns (None: it comes ``think_ns`` after the end of the line before),
    its lengths, and the ids of its blocks of ``block_tokens``.
    """

    where: str
    instant_ns: int | None
    input_tokens: int
    output_tokens: int
    priority: int = 0
    think_ns: int = 0
    ids: list[int] = field(default_factory=list)
    block_tokens: int = 1


class FileArrivals(Arrivals):
    """Requests that a file lists. ``lines`` of a kind reads them."""

    file: str = Field(min_length=1, description="The path of the file.")
    window: Window | None = Field(
        default=None,
        description="Only what comes from one instant after the first to another, as [1 s, 60 s].",
    )
    scale_rate: float = Field(
        default=1.0, gt=0, description="Gaps are divided by this: 2 makes requests twice as dense."
    )

    @field_validator("window")
    @classmethod
    def _ascends(cls, window: list[float] | None) -> list[float] | None:
        if window is not None and not window[0] < window[1]:
            raise ValueError("ends before it begins; write two instants that ascend")
        return window

    @property
    def reads(self) -> str | None:
        """See ``Arrivals``."""
        return self.file

    def lines(self, path: Path, text: str) -> Iterator[Line]:
        """The requests of ``text``, read from ``path``; InputError with the line of a mistake."""
        raise NotImplementedError

    def arrive(self, count: int, stream: Generator, folders: Sequence[Path]) -> Arrived:
        """See ``Arrivals``."""
        del stream
        path = look_up(self.file, folders)
        if path is None:
            what = not_found(self.file, folders or lookup_folders())
            raise InputError([Problem("", "workload.arrivals.file", what)])
        with files_read() as files:
            text = decoded(read_input(path), str(path))
        tell("arrivals", self.file, files)
        lines = self._chosen(list(self.lines(path, text)))[:count]
        if not lines:
            what = "has no request"
            what += " in the window" if self.window else "; each line, or row, is one"
            raise InputError([Problem(str(path), "", what)])
        return _arrived(lines, self.scale_rate)

    def _chosen(self, lines: list[Line]) -> list[Line]:
        """Sessions whose first request is in the window, from its begin on, in order of arrival."""
        sessions: list[list[Line]] = []
        for line in lines:
            if line.instant_ns is None:
                sessions[-1].append(line)
            else:
                sessions.append([line])
        first = min((_begin(one) for one in sessions), default=0)
        low, high = self.window or (0, MOST_NS)
        inside = [one for one in sessions if low <= _begin(one) - first < high]
        inside.sort(key=_begin)
        for one in inside:
            one[0].instant_ns = _begin(one) - first - int(low)
        return [line for one in inside for line in one]


def _begin(session: list[Line]) -> int:
    instant = session[0].instant_ns
    assert instant is not None, "a session begins at an instant"
    return instant


def _arrived(lines: list[Line], scale: float) -> Arrived:
    def column(name: str) -> Ints:
        return np.array([getattr(line, name) for line in lines], np.int64)

    known = np.array([line.instant_ns is not None for line in lines])
    instants = np.array([line.instant_ns or 0 for line in lines], np.float64)
    with np.errstate(over="ignore"):  # what is too late is told
        came = whole(instants / scale)
    check_latest(sum(line.think_ns for line in lines))
    counts = np.array([len(line.ids) for line in lines], np.int64)
    ids = np.array([one for line in lines for one in line.ids], np.int64)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    shared = Prefixes(offsets, ids, column("block_tokens")) if len(ids) else None
    return Arrived(
        arrival_ns=np.where(known, came, NEVER),
        input_tokens=column("input_tokens"),
        output_tokens=column("output_tokens"),
        priority=column("priority"),
        follows=np.where(known, -1, np.arange(len(lines)) - 1),
        think_ns=column("think_ns"),
        prefixes=shared,
    )


def table_of(path: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header that has ``columns``, each with where it stands."""
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        has = ", ".join(reader.fieldnames or ()) or "nothing"
        what = f"has no column '{missing[0]}'; its first line says {has:.200}, and has to name "
        what += ", ".join(columns)
        raise InputError([Problem(f"{path}:1", "", what)])
    for row in reader:
        yield f"{path}:{reader.line_num}", row


def objects_of(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file, one a line, each with where it stands."""
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            what = f"'{line:.40}' is no JSON object; write one a line"
            raise InputError([Problem(where, "", what)])
        yield where, value


def tokens_at(where: str, row: Mapping[str, Any], name: str) -> int:
    """A whole number of tokens, 1 or more."""
    return whole_at(where, row, name, 1, MOST_TOKENS)


def whole_at(where: str, row: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The whole number ``row[name]``, within its bounds; an InputError with the place where not."""
    value = row.get(name)
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or not least <= number <= most:
        what = f"{name} {_as_written(value)}; write a whole number from {least} to {most}"
        raise InputError([Problem(where, "", what)])
    return number


def _as_written(value: Any) -> str:
    return "is missing" if value is None or value == "" else f"is '{value}'"


def instant_at(where: str, row: Mapping[str, Any], name: str, unit_ns: int) -> int:
    """The instant ``row[name]``, given in ``unit_ns``, in whole ns."""
    value = row.get(name)
    try:
        number = float(value) * unit_ns if value is not None and value != "" else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= MOST_NS:
        what = f"{name} {_as_written(value)}; write a time from 0 to {MOST_NS / unit_ns:g}"
        raise InputError([Problem(where, "", what)])
    return round(number)
