"""JSON and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import TEMPORARY, write_whole

UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
    pa.ArrowException,
)  # fmt: skip
"""What reading a damaged table may raise: pandas trusts its metadata."""


def first_line(error: Exception) -> str:
    """What ``error`` says, on one line."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def plain(value: Any) -> Any:
    """``value`` with numpy's scalars, tuples and NaN replaced by what JSON holds (NaN: null)."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` in one go: another process sees the old file or the new one."""
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False)
    write_whole(path, text + "\n")


def check_new_folder(folder: Path) -> None:
    """An InputError unless ``folder`` is new or empty, and can be."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "holds files" if folder.is_dir() else "is a file"
        remedy = "name a new or an empty folder, or remove it first (run, sweep and advise take"
        remedy += " --overwrite)"
        raise InputError([Problem("--out", "", f"'{folder}' {what}; {remedy}")])
    above = next(one for one in folder.absolute().parents if one.exists())
    if not above.is_dir():
        raise unwritable(folder, NotADirectoryError(errno.ENOTDIR, f"'{above}' is a file"))


@contextmanager
def whole_folder(folder: Path, *, instead: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that becomes it at the end, or vanishes on an error;
    ``instead``: also where ``folder`` holds files, which are removed then.
    """
    if not instead:
        check_new_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f"{TEMPORARY}{os.getpid()}-{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield temporary
        flush(temporary)
        if instead and folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unwritable(folder: Path, error: OSError) -> InputError:
    """What is said about a ``folder`` that cannot be written."""
    return InputError(
        [Problem("--out", "", f"'{folder}' cannot be written ({error.strerror or error})")]
    )


def flush(folder: Path) -> None:
    """Bring the files of ``folder`` to the disk, so that its later rename means that they are."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
