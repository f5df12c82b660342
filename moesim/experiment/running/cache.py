"""Results used again: a folder of them, by the digest of everything that decides one.

That is the resolved experiment, the content of every file that it reads, moesim's sources, and the
versions of what it computes with. Names of runs and figures, and where files lie, are not.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import write_whole
from moesim.config.files.inputs import Inputs
from moesim.config.files.paths import expanded
from moesim.experiment.loading.inputs import foreign_parts, inputs_of, still
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.choice import is_choice
from moesim.model.chosen import split_format
from moesim.results import Result
from moesim.results.pack import DamagedError, pack, unpack
from moesim.results.provenance import code_digest, provenance
from moesim.results.store import REUSED
from moesim.trace.cards import scaled_from

VARIABLE = "MOESIM_CACHE"
NONE = "none"
UNSAID: dict[str, Any] = {
    **dict.fromkeys(("name", "figures", "sweep", "trace", "model", "hardware", "software"), True),
    "placement": {"file"},
}
"""Keys of an experiment that decide nothing of a result, or name files, whose content counts."""


class Simulate(Protocol):
    """Simulates an experiment."""

    def __call__(self, experiment: Experiment, *, inputs: Inputs) -> Result:
        """The result of ``experiment``; a ChangedError where it reads anything but ``inputs``."""
        ...


def cache_folder(option: str | None) -> Path | None:
    """The cache that ``option`` names, or the environment; None for no cache.

    Raises an InputError where the folder cannot be written.
    """
    named = option or os.environ.get(VARIABLE) or NONE
    if named == NONE:
        return None
    folder = expanded(named).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        where = "--cache" if option else VARIABLE
        what = f"'{named}' cannot be written ({error.strerror}); name another folder, or none"
        raise InputError([Problem(where, "", what)]) from error


def reused_or(
    simulate: Simulate, experiment: Experiment, cache: Path, inputs: Inputs | None = None
) -> Result:
    """The result of ``experiment`` from the folder ``cache``, else by ``simulate``, then kept.

    The provenance of one that was kept has the key ``reused``. An experiment with a component from
    outside moesim is always simulated. A ChangedError where ``experiment`` reads anything but
    ``inputs`` (None: what there is at the start).
    """
    inputs = inputs_of([experiment]) if inputs is None else still(inputs, experiment)
    if foreign_parts(experiment):
        return simulate(experiment, inputs=inputs)
    path = cache / f"{key_of(experiment, inputs)}.result"
    if (kept := _read(path)) is not None:
        created = kept.provenance.get("created")
        return replace(
            kept,
            summary={**kept.summary, "name": experiment.name},
            experiment=experiment,
            provenance={**provenance(inputs, seed=experiment.seed), REUSED: {"created": created}},
        )
    result = simulate(experiment, inputs=inputs)
    _write(path, pack(result))
    return result


def key_of(experiment: Experiment, inputs: Inputs) -> str:
    """The SHA-256 of everything that decides the result of ``experiment``, which reads
    ``inputs``.
    """
    content = {
        "code": code_digest(),
        "experiment": experiment.model_dump(mode="json", exclude=UNSAID),
        "formats": split_format(experiment.named.model)[1],
        "named": experiment.named.assumed,
        "stand_in": scaled_from(experiment.trace) is not None,  # another trace of the same file
        "machine": experiment.hardware if is_choice(experiment.hardware) else None,
        "inputs": {key: [file.sha256 for file in files] for (key, _), files in inputs.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path) -> Result | None:
    """The result in ``path``; None where there is none, or none that is whole."""
    try:
        return unpack(path.read_bytes())
    except (OSError, DamagedError):
        return None


def _write(path: Path, content: bytes) -> None:
    """Keep ``content``; a full disk costs the next run its time, not this one its result."""
    with suppress(InputError):
        write_whole(path, content)
