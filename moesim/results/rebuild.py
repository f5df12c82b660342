"""The experiment of a result folder, ready to run again on the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.results.folder import EXPERIMENT, PROVENANCE, read_experiment, read_provenance
from moesim.results.provenance import digest

ENDINGS = (".gguf", ".json", ".parquet", ".yaml", ".yml")
"""Of files that an experiment names."""
CHOICE = "@"
"""Between a model and its format."""


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
        key: whole
        for key, entry in inputs.items()
        if key in experiment and (whole := whole_path(str(experiment[key]), Path(entry["path"])))
    }
    if "plan" in inputs:
        found["placement"] = experiment["placement"] | {"file": inputs["plan"]["path"]}
    return found


def folders_then(file: Path) -> tuple[Path, ...]:
    """Where the run that wrote ``file``, the experiment of a result, found what that names by a
    relative path; none of any other file.
    """
    folder = file.parent
    if file.name != EXPERIMENT or not (folder / PROVENANCE).is_file():
        return ()
    try:
        experiment, inputs = read_experiment(folder), read_provenance(folder).get("inputs", {})
    except InputError:  # which says nothing of the experiment itself
        return ()
    names = {**experiment, "plan": (experiment.get("placement") or {}).get("file")}
    pairs = [(names.get(key), Path(entry["path"])) for key, entry in inputs.items()]
    found = (_above(Path(name), path) for name, path in pairs if isinstance(name, str))
    return tuple(dict.fromkeys(filter(None, found)))


def _above(name: Path, path: Path) -> Path | None:
    """The folder from which the relative ``name`` is ``path``."""
    count = len(name.parts)
    if name.is_absolute() or path.parts[-count:] != name.parts:
        return None
    return Path(*path.parts[:-count])


def whole_path(name: str, path: Path) -> str | None:
    """``name`` with the whole ``path`` of the file that it names, and what it chooses behind it (a
    model's format); None where it names none: a shipped thing, a part, a stand-in scaled from it.
    """
    base, mark, chosen = name.rpartition(CHOICE)
    if _names(name, path):
        return str(path)
    return f"{path}{mark}{chosen}" if mark and _names(base, path) else None


def _names(name: str, path: Path) -> bool:
    """Whether ``name`` is that of a file, or of the folder of the file ``path``."""
    return Path(name).suffix.lower() in ENDINGS or Path(name).name == path.parent.name


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
