"""numba, with compiled code on disk that is thrown away when what it was made from has changed.

numba looks only at the file of a compiled function. The constants and functions that it takes from
other modules are compiled into it as well, so that after an update old code could count wrongly.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from numba import njit, types

__all__ = ["njit", "types"]

PACKAGE = Path(__file__).parents[1]
COMPILED = ("memory", "engine", "trace")
"""The parts of the package that hold compiled functions, or constants of theirs."""


def stamp_of(folders: list[Path]) -> str:
    """What tells one state of the sources in ``folders`` from another."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            about = path.stat()
            digest.update(f"{path} {about.st_mtime_ns} {about.st_size}\n".encode())
    return digest.hexdigest()


def forget_stale(package: Path = PACKAGE, parts: tuple[str, ...] = COMPILED) -> bool:
    """Delete the compiled code of ``parts`` if their sources have changed since it was made.

    Returns whether it did. Where the package cannot be written, numba keeps its code elsewhere, and
    nothing is done.
    """
    folders = [package / part for part in parts]
    stamp, known = stamp_of(folders), package / "__pycache__" / "compiled.stamp"
    with contextlib.suppress(OSError):
        if known.is_file() and known.read_text(encoding="utf-8") == stamp:
            return False
        for folder in folders:
            for kept in folder.rglob("__pycache__/*.nb[ic]"):
                kept.unlink(missing_ok=True)
        known.parent.mkdir(exist_ok=True)
        known.write_text(stamp, encoding="utf-8")
        return True
    return False


forget_stale()
