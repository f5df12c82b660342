"""What experiments name is read once, for all points of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from moesim.config.errors import Problem
    from moesim.config.files.inputs import Files


class Read(NamedTuple):
    """What a name stands for and the files that it was read from, or why it cannot be had."""

    thing: Any
    files: Files
    problems: tuple[Problem, ...]


kept: ContextVar[dict[tuple[str, str, tuple[Path, ...]], Read] | None] = ContextVar(
    "kept", default=None
)
"""What has been read, by the kind of thing, its name and the folders where it is looked for."""


@contextmanager
def read_once() -> Iterator[None]:
    """What experiments name is read once inside, for all points of a sweep; one inside another is
    part of it.
    """
    if kept.get() is not None:
        yield
        return
    before = kept.set({})
    try:
        yield
    finally:
        kept.reset(before)
