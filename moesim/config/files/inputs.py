"""Which files are read, and what was in them: told to whoever records it, when they are read.

A digest is of the bytes that were used, so what rests on it holds though the file changes later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from moesim.config.errors import ChangedError, InputError, Problem
from moesim.config.files.files import read_file

CHANGED = "its content changed after the start, so nothing is made of it; what is finished is kept"
REMEDY = "restore the file and give the same command again, or begin anew in another folder"


class InputFile(NamedTuple):
    """A file, and the SHA-256 in hexadecimal of what was read from it."""

    path: Path
    sha256: str


Files = tuple[InputFile, ...]
"""What was read for one thing that an experiment names, in order: the file that it names first."""
Named = tuple[str, str]
"""A key of an experiment and the name there, as ``("hardware", "mine.yaml")``."""
Inputs = Mapping[Named, Files]

_files: ContextVar[list[InputFile] | None] = ContextVar("files", default=None)
_inputs: ContextVar[dict[Named, Files] | None] = ContextVar("inputs", default=None)
_digests: dict[tuple[Path, tuple[int, ...]], str] = {}
_MOST_DIGESTS = 1024


@contextmanager
def files_read() -> Iterator[list[InputFile]]:
    """The files that are read inside, in a list that grows."""
    mine: list[InputFile] = []
    before = _files.set(mine)
    try:
        yield mine
    finally:
        _files.reset(before)


@contextmanager
def recording() -> Iterator[dict[Named, Files]]:
    """What ``tell`` is told inside, in a mapping that grows."""
    mine: dict[Named, Files] = {}
    before = _inputs.set(mine)
    try:
        yield mine
    finally:
        _inputs.reset(before)


def note(file: InputFile) -> None:
    """Say that ``file`` was read; a ChangedError where something else was read there before."""
    files = _files.get()
    if files is None or file in files:
        return
    if any(other.path == file.path for other in files):
        raise ChangedError([Problem(str(file.path), "", f"{CHANGED}; {REMEDY}")])
    files.append(file)


def tell(key: str, name: str, files: Iterable[InputFile]) -> None:
    """Say that an experiment's ``key: name`` stands for what was read from ``files``.

    Raises a ChangedError where it was something else before.
    """
    inputs = _inputs.get()
    if inputs is not None:
        found = {(key, name): tuple(files)}
        check_same({**found, **inputs}, found)
        inputs.update(found)


def note_header(path: Path, header: bytes) -> None:
    """Note ``path``, of which no more than its ``header`` was read: its digest is that of its size
    and its header, as long as it is not written.
    """
    here = path.absolute()
    key = (here, stamp(here))
    _digests[key] = hashlib.sha256(str(key[1][1]).encode() + header).hexdigest()
    note(InputFile(here, _digests[key]))


def read_input(path: Path | str, what: str = "file") -> bytes:
    """The content of the plain file ``path``, which is noted; errors as ``read_file``."""
    content = read_file(path, what)
    note(InputFile(Path(path).absolute(), hashlib.sha256(content).hexdigest()))
    return content


def stamp(path: Path) -> tuple[int, ...]:
    """What differs once ``path`` is another file, or was written; an OSError where it is none."""
    stat = path.stat()
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def file_of(path: Path) -> InputFile:
    """``path`` with its digest; a file that has not changed is read once a process.

    Raises an InputError where it cannot be read.
    """
    try:
        key = (path, stamp(path))
        if key not in _digests:
            if len(_digests) >= _MOST_DIGESTS:
                _digests.clear()
            with path.open("rb") as stream:
                _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError([Problem(str(path), "", f"cannot be read ({error.strerror})")]) from error
    return InputFile(path.absolute(), _digests[key])


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Note ``path``, which the caller reads; a ChangedError where it is written meanwhile."""
    before, file = stamp(path), file_of(path)
    yield
    if stamp(path) != before:
        what = "was written while it was read; try again when it is finished"
        raise ChangedError([Problem(str(path), "", what)])
    note(file)


def check_same(expected: Inputs, found: Inputs) -> None:
    """Raise a ChangedError that names the first file of ``found`` that is not as ``expected``."""
    for named, files in found.items():
        for before, now in zip_longest(expected.get(named, ()), files):
            if before != now:
                path = str((now or before).path)
                raise ChangedError([Problem(path, named[0], _what(before, now))])


def _what(before: InputFile | None, now: InputFile | None) -> str:
    if now is None:
        return f"the file is gone since the start; {REMEDY}"
    return f"{CHANGED if before else 'the file was not read at the start'}; {REMEDY}"


def outdated(inputs: Inputs) -> list[str]:
    """A line for every file of ``inputs`` that is no longer what was read."""
    files = dict.fromkeys(file for files in inputs.values() for file in files)
    return [
        f"warning: {file.path}: has changed since the start; the results are of what it was then"
        for file in files
        if not file.path.is_file() or file_of(file.path) != file
    ]


def paths_of(inputs: Inputs) -> list[Path]:
    """Every file of ``inputs``."""
    return [file.path for files in inputs.values() for file in files]


def labelled(inputs: Inputs, *, names: bool = False) -> dict[str, InputFile]:
    """The files of ``inputs`` by key (with ``names``: and name), others that these name below."""
    found: dict[str, InputFile] = {}
    for (key, name), files in inputs.items():
        label = f"{key} {name}" if names else key
        for file in files:
            tried = (label, f"{label}: {file.path.name}", f"{label}: {file.path}")
            found[next(text for text in tried if text not in found)] = file
    return found
