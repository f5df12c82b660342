"""How far a long command has come, and how it is stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from types import FrameType
from typing import NoReturn, Protocol

INTERRUPTED = 130
MINUTE_S = 60.0
LINE_EVERY_S = 10.0
"""Least time between two lines where stderr is no terminal."""
ENOUGH = 3
"""Things finished behind the first, which also loads and compiles: fewer say no time left."""
COMPILES = "what runs for the first time here is compiled once"
LEFT_BEHIND = "ignore::UserWarning:multiprocessing.resource_tracker"
"""What Python's own process that tidies up after others would say."""


class Told(Protocol):
    """Told how far a command is, and what it has ``found`` so far."""

    def __call__(self, finished: int, total: int, found: str = "") -> None:
        """``finished`` of ``total`` things stand."""
        ...


@contextmanager
def progress_bar(of: str = "points") -> Iterator[Told]:
    """A bar with the time left and what is found so far on stderr; where that is no terminal, a
    line now and then.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console.print, of)
        return
    one_line = Column(no_wrap=True, overflow="ellipsis")
    texts = [
        TextColumn(f"{{task.fields[{name}]}}", markup=False, table_column=one_line.copy())
        for name in ("left", "found")
    ]
    with Bar(of, BarColumn(), MofNCompleteColumn(), *texts, console=console, transient=True) as bar:
        task, pace = bar.add_task(of, total=None, left="", found=""), Pace()

        def told(finished: int, total: int, found: str = "") -> None:
            left = pace.left(finished, total, time.monotonic())
            bar.update(task, completed=finished, total=total, left=left, found=found)

        yield told


class Pace:
    """How long each thing takes, from the first on that is finished here: what stood before takes
    no time, and the first also loads and compiles.
    """

    def __init__(self) -> None:
        self._standing: int | None = None
        self._first: tuple[int, float] | None = None

    def left(self, finished: int, total: int, now_s: float) -> str:
        """In words: the time left, or why the first takes long."""
        seconds = self.left_s(finished, total, now_s)
        if seconds is not None:
            return time_left(seconds)
        return "" if self._first else COMPILES

    def left_s(self, finished: int, total: int, now_s: float) -> float | None:
        """Seconds for the others of ``total``; None where too few are ``finished`` to know."""
        self._standing = finished if self._standing is None else self._standing
        if self._first is None:
            self._first = (finished, now_s) if finished > self._standing else None
            return None
        done = finished - self._first[0]
        if done < ENOUGH:
            return None
        return (now_s - self._first[1]) / done * (total - finished)


def _lines(write: Callable[[str], None], of: str) -> Told:
    last, pace = time.monotonic(), Pace()

    def told(finished: int, total: int, found: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if left := pace.left(finished, total, now):
            left = f", {left}"
        if now - last >= LINE_EVERY_S:
            last = now
            said = "; ".join(part for part in (f"{finished} of {total} {of}{left}", found) if part)
            write(said)

    return told


def time_left(seconds: float) -> str:
    """In words, as exact as such a guess is."""
    if seconds < MINUTE_S:
        return "less than a minute left"
    return f"about {seconds / MINUTE_S:.0f} min left"


@contextmanager
def leave_at_ctrl_c(message: str) -> Iterator[None]:
    """At ctrl-C inside, end this process and all that it started, with ``message`` on stderr.

    Nothing is tidied up, and no exception is raised: a finalizer would swallow it, and a second
    ctrl-C (``timeout`` sends two) interrupt its handling. Where ctrl-C is ignored it stays so.
    """

    def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
        from rich.console import Console

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for process in active_children():
            process.kill()
        Console(stderr=True).show_cursor()
        os.write(2, f"{message}\n".encode())
        os._exit(INTERRUPTED)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    os.environ.setdefault("PYTHONWARNINGS", LEFT_BEHIND)
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
