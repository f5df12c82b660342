"""One sweep at a time in a folder, and no process of an earlier one that still writes there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from moesim.config.errors import InputError, Problem

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows has no such locks; sweeps work without)
    fcntl = None  # type: ignore[assignment]

PATIENCE_S = 30.0
"""How long the processes of a sweep that was killed may take to notice it."""


@contextmanager
def hold_alone(sweep: Path) -> Iterator[None]:
    """Hold the folder ``sweep`` for this process; an InputError where another one works there."""
    with (sweep / ".lock").open("a") as own:
        if not _try(own, exclusive=True):
            raise _busy(sweep, "another moesim sweep is running in this folder")
        _wait_for_workers(sweep)
        yield


@contextmanager
def hold_shared(lock: Path) -> Iterator[None]:
    """Hold a worker's part of ``lock`` for as long as it lives."""
    with lock.open("a") as stream:
        if fcntl:
            fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def workers_lock(sweep: Path) -> Path:
    """The file that every worker of the sweep in ``sweep`` holds."""
    return sweep / ".lock-workers"


def _wait_for_workers(sweep: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with workers_lock(sweep).open("a") as stream:
        while not _try(stream, exclusive=True):
            if time.monotonic() > deadline:
                raise _busy(sweep, "processes of an earlier sweep still work in this folder")
            time.sleep(0.05)


def _try(stream: IO[str], *, exclusive: bool) -> bool:
    if not fcntl:
        return True
    try:
        fcntl.flock(stream, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(sweep: Path, what: str) -> InputError:
    return InputError([Problem(str(sweep), "", f"{what}; wait for it or end it first")])
