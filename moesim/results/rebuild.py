"""The experiment of a result folder, ready to run again on the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.hardware.described.names import known_part
from moesim.results.folder import read_experiment, read_provenance
from moesim.results.provenance import digest


def rebuild(folder: Path | str) -> dict[str, Any]:
    """The resolved experiment of ``folder``: what ``moesim.run`` takes to repeat that run.

    Raises an InputError naming every input file that is gone or has changed since.
    """
    problems = changed_inputs(Path(folder))
    if problems:
        raise InputError(problems)
    return read_experiment(folder) | paths(Path(folder))


def paths(folder: Path) -> dict[str, Any]:
    """The inputs that the experiment in ``folder`` names by path, as absolute paths."""
    experiment, inputs = read_experiment(folder), read_provenance(folder).get("inputs", {})
    found: dict[str, Any] = {
        name: entry["path"]
        for name, entry in inputs.items()
        if name in experiment and _is_path(str(experiment[name]), Path(entry["path"]))
    }
    if "plan" in inputs:
        found["placement"] = experiment["placement"] | {"file": inputs["plan"]["path"]}
    return found


def _is_path(name: str, path: Path) -> bool:
    """Whether ``name`` is no shipped thing, whose file is called like it."""
    return bool(Path(name).suffix) or known_part(name, [path.stem]) is None


def changed_inputs(folder: Path) -> list[Problem]:
    """One problem for each input of the run in ``folder`` that is not what it was."""
    inputs = read_provenance(folder).get("inputs", {})
    return [
        Problem(entry["path"], name, what)
        for name, entry in inputs.items()
        if (what := _change(Path(entry["path"]), entry["sha256"]))
    ]


def _change(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "the file that the run read is gone; restore it to run this again"
    if digest(path) != sha256:
        remedy = "restore it, or the moesim that it came with"
        return f"has changed since the run (its SHA-256 was {sha256[:12]}...); {remedy}"
    return ""
