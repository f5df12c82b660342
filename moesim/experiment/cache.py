"""Results used again: a folder of them, by the digest of everything that decides one.

That is the resolved experiment, the content of its trace, model and profiles, moesim's sources, and
the versions of what it computes with. Names of runs and figures, and where files lie, are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache as once
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

import moesim
from moesim.config.errors import InputError, Problem
from moesim.config.paths import find
from moesim.experiment.inputs import provenance_of
from moesim.experiment.names import needed
from moesim.experiment.schema import Experiment
from moesim.results import Result
from moesim.results.pack import DamagedError, pack, unpack
from moesim.results.provenance import PACKAGES, digest_once, installed
from moesim.results.store import REUSED

VARIABLE = "MOESIM_CACHE"
NONE = "none"
UNSAID = {"name", "figures", "sweep", "trace", "model", "hardware", "software"}
"""Keys of an experiment that decide nothing of a result, or whose content is looked at instead."""


def cache_folder(option: str | None) -> Path | None:
    """The cache that ``option`` names, or the environment; None for no cache.

    Raises an InputError where the folder cannot be written.
    """
    named = option or os.environ.get(VARIABLE) or NONE
    if named == NONE:
        return None
    folder = Path(named).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        where = "--cache" if option else VARIABLE
        what = f"'{named}' cannot be written ({error.strerror}); name another folder, or none"
        raise InputError([Problem(where, "", what)]) from error


def reused_or(
    simulate: Callable[[Experiment], Result], experiment: Experiment, cache: Path
) -> Result:
    """The result of ``experiment`` from the folder ``cache``, else by ``simulate``, then kept.

    The provenance of one that was kept has the key ``reused``. An experiment with a component from
    outside moesim is always simulated. InputError: the folder cannot be written.
    """
    if _has_foreign_part(experiment):
        return simulate(experiment)
    path = cache / f"{key_of(experiment)}.result"
    if (kept := _read(path)) is not None:
        created = kept.provenance.get("created")
        return replace(
            kept,
            summary={**kept.summary, "name": experiment.name},
            experiment=experiment,
            provenance={**provenance_of(experiment), REUSED: {"created": created}},
        )
    result = simulate(experiment)
    _write(path, pack(result))
    return result


def key_of(experiment: Experiment) -> str:
    """The SHA-256 of everything that decides the result of ``experiment``."""
    folders = experiment.folders
    content = {
        "code": code_digest(),
        "experiment": experiment.model_dump(mode="json", exclude=UNSAID),
        "trace": digest_once(find(experiment.trace, folders)),
        "model": asdict(needed("model", experiment.model, folders)),
        "hardware": needed("hardware", experiment.hardware, folders).model_dump(mode="json"),
        "software": needed("software", experiment.software, folders).model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@once
def code_digest() -> str:
    """The SHA-256 of moesim's sources and of the versions of what they compute with."""
    root = Path(moesim.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\n".encode())
        total.update(path.read_bytes())
    versions = {name: installed(name) for name in ("moesim", *PACKAGES)}
    machine = [platform.python_version(), platform.machine(), platform.system()]
    total.update(json.dumps([versions, machine], sort_keys=True).encode())
    return total.hexdigest()


def _has_foreign_part(value: Any) -> bool:
    """Whether a component's code is outside moesim, where its changes are not seen."""
    if not isinstance(value, BaseModel):
        return False
    own = type(value).__module__.partition(".")[0] == moesim.__name__
    return not own or any(_has_foreign_part(part) for _, part in value)


def _read(path: Path) -> Result | None:
    """The result in ``path``; None where there is none, or none that is whole."""
    try:
        return unpack(path.read_bytes())
    except (OSError, DamagedError):
        return None


def _write(path: Path, content: bytes) -> None:
    """Keep ``content``; a full disk costs the next run its time, not this one its result."""
    temporary = path.with_name(f".writing-{uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
