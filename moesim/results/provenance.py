"""What it takes to run a result again: versions, platform, seed, digests of the inputs."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem

FORMAT = 1
"""The version of the result folder's layout."""

PACKAGES = ("numba", "numpy", "pandas", "pyarrow", "pydantic", "scipy", "simpy")


def digest(path: Path | str) -> str:
    """The SHA-256 of the file ``path``, in hexadecimal; an InputError where it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError([Problem(str(path), "", f"cannot be read ({error.strerror})")]) from error


def digest_once(path: Path | str) -> str:
    """Like ``digest``, but a file that has not changed is read once a process."""
    try:
        stat = Path(path).stat()
    except OSError:
        return digest(path)
    return _digest(Path(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _digest(path: Path, changed_ns: int, size: int) -> str:
    del changed_ns, size
    return digest(path)


@lru_cache(maxsize=64)
def installed(package: str) -> str | None:
    """The version of ``package``, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def provenance(
    inputs: Mapping[str, Path | str], *, seed: int, command: str | None = None
) -> dict[str, Any]:
    """Where a result comes from.

    ``inputs`` names the files that the run read (``trace``, ``hardware``, ``model``, ``software``);
    ``seed`` is the one from which every random stream was derived; ``command`` is what the user
    typed (default: this process's command line).
    """
    return {
        "format": FORMAT,
        "moesim": installed("moesim"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {package: installed(package) for package in PACKAGES},
        "seed": seed,
        "inputs": {
            name: {"path": str(Path(path).resolve()), "sha256": digest_once(path)}
            for name, path in inputs.items()
        },
        "command": command or shlex.join(sys.argv),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
