"""What is made of shipped files is made once a process, for as long as they are as they were."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from moesim.config.errors import InputError
from moesim.config.files.inputs import Files, file_of, files_read, note, stamp

Thing = TypeVar("Thing")
_MOST = 256
_made: dict[Hashable, tuple[Any, Files]] = {}


def made_once(key: Hashable, make: Callable[[], Thing]) -> Thing:
    """What ``make()`` returns, which nobody changes, or returned for this ``key`` before; the files
    that it read are noted either way, and it is made anew where one of them has changed.
    """
    if (known := _made.get(key)) is None or not _as_before(known[1]):
        with files_read() as files:
            thing = make()
        if len(_made) >= _MOST:
            _made.clear()
        known = _made[key] = thing, tuple(files)
    for file in known[1]:
        note(file)
    found: Thing = known[0]
    return found


def _as_before(files: Files) -> bool:
    with suppress(InputError):
        return all(file_of(file.path) == file for file in files)
    return False


def stems(folder: Path, suffix: str) -> list[str]:
    """The names of the files in ``folder`` that end so, without that, sorted; none where there is
    no such folder.
    """
    try:
        return list(_stems(folder, suffix, stamp(folder)))
    except OSError:
        return []


@lru_cache(maxsize=64)
def _stems(folder: Path, suffix: str, _: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob(f"*{suffix}")))
