"""Where each value of a resolved experiment came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moesim.config.document import DEFAULT, Document, Steps, dotted
from moesim.config.errors import InputError, Problem
from moesim.experiment.schema.experiment import Experiment


def leaves(value: Any, path: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """The values below nested mappings, with their paths; a list or an empty mapping is one
    value.
    """
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from leaves(entry, (*path, key))
    else:
        yield path, value


def origins_of(experiment: Experiment, document: Document) -> dict[str, str]:
    """``file.yaml:12``, ``--set`` or ``default`` for the dotted path of every value."""
    return {
        dotted(path): document.value_mark(path).origin if document.has(path) else DEFAULT
        for path, _ in leaves(experiment.model_dump(mode="json"))
    }


@contextmanager
def placed(origins: Mapping[str, str], file: Path) -> Iterator[None]:
    """Put where a value came from in front of the problems of an InputError that name no place,
    only the value's path: its line or option, or ``file`` where it is a default.
    """
    try:
        yield
    except InputError as error:
        raise InputError(_placed(problem, origins, file) for problem in error.problems) from None


def _placed(problem: Problem, origins: Mapping[str, str], file: Path) -> Problem:
    path, what = problem.path, problem.what
    if not path and (found := what.partition(": "))[0] in _sections(origins):
        path, what = found[0], found[2]
    if problem.where or not path:
        return problem
    own = next((place for key, place in origins.items() if f"{key}.".startswith(f"{path}.")), None)
    return Problem(str(file) if own in (None, DEFAULT) else str(own), path, what)


def _sections(origins: Mapping[str, str]) -> set[str]:
    """Every dotted path of a value or of a mapping of values."""
    parts = [path.split(".") for path in origins]
    return {".".join(steps[:n]) for steps in parts for n in range(1, len(steps) + 1)}
