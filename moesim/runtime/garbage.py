"""When Python looks for unreachable cycles of objects: seldom, in a process of moesim's own."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_OBJECTS = 100_000
"""New objects that set off a search, instead of Python's 700."""


@cache
def collect_seldom() -> None:
    """Search seldom, and not at all when the process ends.

    Importing numba and pandas makes some 300,000 objects that stay. Python goes through them again
    and again on the way, and once more at the end: almost a third of a short run.
    """
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)


@contextmanager
def not_collecting() -> Iterator[None]:
    """No search meanwhile: numba makes so many objects, most of which stay, that searches are a
    tenth of the time to compile a function.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
