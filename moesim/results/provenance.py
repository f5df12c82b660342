"""What it takes to run a result again: versions, platform, seed, digests of the inputs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from functools import cache as once
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import check_regular
from moesim.config.files.inputs import Inputs, labelled
from moesim.config.registry import VARIABLE

FORMAT = 1
"""The version of the result folder's layout."""

SOURCES = Path(__file__).resolve().parents[1]
PACKAGES = ("numba", "numpy", "pandas", "pyarrow", "pydantic", "scipy", "simpy")


def digest(path: Path | str) -> str:
    """The SHA-256 of the file ``path``, in hexadecimal; an InputError where it cannot be read."""
    check_regular(path)
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError([Problem(str(path), "", f"cannot be read ({error.strerror})")]) from error


@lru_cache(maxsize=64)
def installed(package: str) -> str | None:
    """The version of ``package``, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@once
def source_digest() -> str:
    """The SHA-256 of the sources of moesim that a number may come from: no others are imported."""
    total = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        name = path.relative_to(SOURCES)
        if name.parts[0] not in ("cli", "report"):
            total.update(f"{name}\n".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


@once
def code_digest() -> str:
    """The SHA-256 of ``source_digest`` and of the versions of what moesim computes with."""
    versions = {name: installed(name) for name in ("moesim", *PACKAGES)}
    machine = [platform.python_version(), platform.machine(), platform.system()]
    content = json.dumps([source_digest(), versions, machine], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def typed() -> str:
    """The command line of this process, with the plug-ins that it needs."""
    plugins = os.environ.get(VARIABLE, "")
    return f"{VARIABLE}={shlex.quote(plugins)} " * bool(plugins) + shlex.join(sys.argv)


def provenance(inputs: Inputs, *, seed: int, command: str | None = None) -> dict[str, Any]:
    """Where a result comes from.

    ``inputs``: what the run read; ``seed`` is the one from which every random stream was derived;
    ``command`` is what the user typed (default: this process's command line).
    """
    return {
        "format": FORMAT,
        "moesim": installed("moesim"),
        "sources": source_digest(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {package: installed(package) for package in PACKAGES},
        "seed": seed,
        "inputs": {
            label: {"path": str(file.path.resolve()), "sha256": file.sha256}
            for label, file in labelled(inputs).items()
        },
        "command": command or typed(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
