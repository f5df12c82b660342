"""Many results in few files: a log with a line for each, and packs with their tables.

A result counts once its line stands whole in the log, which one process alone writes. Each process
that evaluates appends to a pack of its own, before its lines go to the log: whatever kills them,
what the log names is there, and what it does not name was never finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self
from uuid import uuid4

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import check_regular
from moesim.config.json_text import parse_json
from moesim.results.files import plain, unwritable
from moesim.results.pack import DamagedError, pack, unpack
from moesim.results.renamed import check_names
from moesim.results.result import TABLES, Result
from moesim.results.shape import Line, Summary, check_shape

LOG, PACKS, POINTS = "finished.jsonl", "packs", "points"
REUSED = "reused"
"""The provenance's key of a result that was not computed for this run."""


@dataclass(frozen=True)
class Entry:
    """A line of the log: a result's number and summary, and where the rest of it is.

    ``pack`` is None for one that failed; ``details`` then holds the traceback.
    """

    number: int
    summary: dict[str, Any]
    pack: str | None = None
    start: int = 0
    length: int = 0
    reused: bool = False
    details: str = ""


@dataclass(frozen=True)
class Finished:
    """A result that has no place yet: its line but for that, and its bytes."""

    entry: Entry
    content: bytes

    @classmethod
    def of(cls, number: int, result: Result) -> Self:
        """``result`` as the one with ``number``."""
        reused = REUSED in result.provenance
        return cls(Entry(number, plain(result.summary), reused=reused), pack(result))


@dataclass(frozen=True)
class PackFile:
    """A file among the packs of ``folder`` to which one thread alone appends."""

    folder: Path
    name: str = field(default_factory=lambda: f"{uuid4().hex}.pack")

    def append(self, results: Iterable[Finished]) -> list[Entry]:
        """Bring ``results`` to the disk; the lines of the log that say where they are.

        Raises an InputError where the disk is full or gone.
        """
        try:
            with (self.folder / PACKS / self.name).open("ab") as stream:
                entries = [self._write(stream, one) for one in results]
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return entries

    def _write(self, stream: IO[bytes], one: Finished) -> Entry:
        start = stream.tell()
        stream.write(one.content)
        return replace(one.entry, pack=self.name, start=start, length=len(one.content))


class LogWriter:
    """Appends lines to the log of ``folder``; a line that a killed process left torn is cut off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = (folder / LOG).open("ab")
        self._stream.truncate(whole_bytes(folder / LOG))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what a full disk did not take; ``add`` has told
            self._stream.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """Append a line for each entry and bring them to the disk; errors as in ``PackFile``."""
        lines = (json.dumps(asdict(entry), ensure_ascii=False) for entry in entries)
        try:
            self._stream.write("".join(f"{line}\n" for line in lines).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise unwritable(self._folder, error) from error


def whole_bytes(log: Path) -> int:
    """The length of the whole lines of the file ``log``."""
    return log.read_bytes().rfind(b"\n") + 1


def read_log(folder: Path) -> Mapping[int, Entry]:
    """By number, what the log of ``folder`` says; of two lines of one number the later holds."""
    path = folder / LOG
    if not path.exists():
        return {}
    check_regular(path, "log")
    stat = path.stat()
    return _read_log(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _read_log(path: Path, changed_ns: int, size: int) -> Mapping[int, Entry]:
    """The log at ``path``, read once as long as it does not change."""
    del changed_ns
    lines = path.read_bytes()[:size].splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    entries = [_entry(line, f"{path}:{number}") for number, line in enumerate(whole, 1)]
    return MappingProxyType({entry.number: entry for entry in entries})


def _entry(line: bytes, where: str) -> Entry:
    try:
        entry = parse_json(line, where)
        check_shape(entry, Line, where)
        check_names(where, entry["summary"])
        check_shape(entry["summary"], Summary, where)
        return Entry(**entry)
    except (InputError, TypeError) as error:
        why = _reason(error)
        what = f"is no line of a sweep's log ({why}); restore the file, or remove the line:"
        what += " the same 'moesim sweep' then simulates its point again"
        raise InputError([Problem(where, "", what)]) from error


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return "; ".join(str(replace(problem, where="")) for problem in error.problems)
    return getattr(error, "strerror", None) or str(error)


def is_stored(folder: Path) -> bool:
    """Whether ``folder`` is ``SWEEP/points/NUMBER`` for a result in SWEEP's log: no such folder
    need be there.
    """
    return (
        folder.parent.name == POINTS
        and folder.name.isdecimal()
        and (folder.parent.parent / LOG).is_file()
    )


def read_stored(folder: Path, tables: Iterable[str] = tuple(TABLES)) -> Result:
    """The result that ``folder`` names (``is_stored``), of its tables only ``tables``.

    Raises an InputError where it is not finished, failed, or is damaged.
    """
    entry = _stored(folder)
    if entry.pack is None:
        reason = entry.summary.get("reason")
        raise InputError([Problem(str(folder), "", f"the point failed: {reason}")])
    return read_entry(folder.parent.parent, entry, tables)


def has_failed(folder: Path) -> bool:
    """Whether the point that ``folder`` names (``is_stored``) failed."""
    return _stored(folder).pack is None


def _stored(folder: Path) -> Entry:
    entry = read_log(folder.parent.parent).get(int(folder.name))
    if entry is None:
        raise InputError([Problem(str(folder), "", "the sweep has no such finished point")])
    return entry


def read_entry(sweep: Path, entry: Entry, tables: Iterable[str] = tuple(TABLES)) -> Result:
    """The result of ``entry``, which has a pack, in the folder ``sweep``."""
    path = sweep / PACKS / str(entry.pack)
    try:
        check_regular(path)
        with path.open("rb") as stream:
            stream.seek(entry.start)
            return unpack(stream.read(min(entry.length, path.stat().st_size)), tables)
    except (OSError, DamagedError, InputError) as error:
        why = _reason(error)
        what = f"point {entry.number} cannot be read from it ({why}): its tables are lost, its row"
        what += f" in the sweep's table is not; restore the file, or remove the lines of {LOG} that"
        what += " name it: the same 'moesim sweep' then simulates their points again"
        raise InputError([Problem(str(path), "", what)]) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the packs of ``folder`` that its log does not name: of processes that were killed."""
    named = {entry.pack for entry in read_log(folder).values()}
    for path in (folder / PACKS).glob("*.pack"):
        if path.name not in named:
            path.unlink()
