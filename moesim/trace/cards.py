"""The shipped traces, by the names of the models that they were recorded from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moesim.config.paths import find, look_up, shipped_folder

_OTHER_FILES = {"gpt-oss-20b": "quickstart"}
"""Models whose trace has a file of another name."""


def card_names() -> list[str]:
    """The names of the shipped traces, sorted: those of models, and of files."""
    files = (path.stem for path in (shipped_folder() / "traces").glob("*.parquet"))
    return sorted({*files, *_OTHER_FILES})


def trace_card(name: str) -> Path | None:
    """The shipped trace ``name``, without regard to case; None where there is none."""
    known = name.lower()
    if known not in card_names():
        return None
    return shipped_folder() / "traces" / f"{_OTHER_FILES.get(known, known)}.parquet"


def look_up_trace(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """The shipped trace ``name``, else the file of that path in ``folders``, or None."""
    return trace_card(name) or look_up(name, folders)


def find_trace(name: str, folders: Sequence[Path] = ()) -> Path:
    """Like ``look_up_trace``, but an InputError that names the folders where there is none."""
    return trace_card(name) or find(name, folders)
