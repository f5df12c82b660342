"""What a sweep has found so far: its best point in words, and its page while it goes on; and how
what was stopped goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LOOK_S, PAGE_S = 2.0, 10.0
"""Least time between two looks at what is finished, and between two pages."""
SHARE = 20.0
"""Looking takes at most one part in so many of the time."""


class Seldom:
    """Calls ``what`` at most every ``seconds``, and more seldom where it takes long itself."""

    def __init__(self, what: Callable[[], None], seconds: float) -> None:
        self._what, self._seconds, self._next = what, seconds, -float("inf")

    def __call__(self) -> None:
        """Call it, where it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._what()
            spent = time.monotonic() - now
            self._next = now + max(self._seconds, SHARE * spent)


class SoFar:
    """Tells the best point of the sweep in ``folder``; with ``watch`` it writes its page, too."""

    def __init__(self, folder: Path, *, watch: bool = False) -> None:
        self._folder, self._best = folder, ""
        self._looks = [Seldom(self._look, LOOK_S), *([Seldom(self._page, PAGE_S)] * watch)]

    def __call__(self, finished: int, total: int) -> str:
        """Of a sweep of which ``finished`` points of ``total`` stand; the last page is not its."""
        if 0 < finished < total:
            for look in self._looks:
                look()
        return self._best

    def _look(self) -> None:
        from moesim.report.sweep.best import best_so_far
        from moesim.sweep.found import read_finished

        self._best = best_so_far(read_finished(self._folder))

    def _page(self) -> None:
        from moesim.report.page import write_unfinished

        write_unfinished(self._folder)


def goes_on(folder: Path) -> str:
    """How what was stopped in ``folder`` goes on: where it began anew, as begun that time."""
    if kept := kept_before(folder):
        return f": the same command without --overwrite goes on{kept}"
    return ": the same command goes on"


def kept_before(folder: Path) -> str:
    """Where the results are that ``folder`` had before it was begun anew, if they are kept."""
    from moesim.results.overwrite import BEFORE

    kept = folder / BEFORE
    return f"; what was there before stays in {kept} until then" if kept.is_dir() else ""
