"""Sweep axes: paths and the values that they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moesim.config.checking.sentences import shown
from moesim.config.checking.shape import Shape
from moesim.config.document import Document, Steps
from moesim.config.errors import Problem, nearest
from moesim.config.strict_yaml.overrides import parse_path
from moesim.experiment.schema.experiment import Experiment

SWEEP = "sweep"
_NEVER_SWEPT = ("sweep", "figures")


@dataclass(frozen=True)
class Axis:
    """The paths that change together, and at each of its values what each path is set to.

    ``key`` is the axis as it was written.
    """

    key: str
    paths: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


def read_axes(document: Document) -> tuple[list[Axis], list[Problem]]:
    """The usable axes of ``document``, and the problems of the others."""
    sweep = document.get((SWEEP,))
    axes: list[Axis] = []
    problems: list[Problem] = []
    for key, values in sweep.items() if isinstance(sweep, dict) else ():
        paths = tuple(path.strip() for path in key.split(","))
        taken = {path for axis in axes for path in axis.paths}
        found = list(_wrong_paths(document, key, paths, taken))
        if isinstance(values, list) and values:
            found += _wrong_rows(document, key, paths, values)
            if not found:
                rows = tuple(tuple(row) if len(paths) > 1 else (row,) for row in values)
                axes.append(Axis(key, paths, rows))
                found += _repeated(document, key, values)
        problems += found
    return axes, problems


def _wrong_paths(
    document: Document, key: str, paths: tuple[str, ...], taken: set[str]
) -> Iterator[Problem]:
    mark = document.key_mark((SWEEP, key))
    for index, path in enumerate(paths):
        if what := unknown_path(path):
            yield mark.problem((SWEEP, key), what)
        elif path in taken or path in paths[:index]:
            yield mark.problem((SWEEP, key), f"'{path}' is an axis twice; write it once")


def unknown_path(path: str) -> str | None:
    """What is wrong with the dotted ``path`` of an axis, or None."""
    steps = parse_path(path)
    if steps[0] in _NEVER_SWEPT:
        return f"'{steps[0]}' cannot be swept; name a value that a run depends on"
    shapes = [Shape(Experiment)]
    for depth, step in enumerate(steps):
        below = [found for shape in shapes for found in shape.children(step)]
        if not below:
            keys = {key for shape in shapes for key in shape.keys()}  # noqa: SIM118 (no mapping)
            return _no_such_key(steps[:depth], step, keys)
        shapes = below
    return None


def _no_such_key(parent: Steps, step: str | int, keys: set[str]) -> str:
    place = f"under '{'.'.join(map(str, parent))}'" if parent else "in an experiment"
    if not keys:
        return f"there are no keys {place}, so no '{step}'"
    return f"there is no key '{step}' {place}; {nearest(str(step), keys)}"


def _wrong_rows(
    document: Document, key: str, paths: tuple[str, ...], values: list[Any]
) -> Iterator[Problem]:
    """Values of a zipped axis that are not one value a path."""
    for index, value in enumerate(values) if len(paths) > 1 else ():
        if not (isinstance(value, list) and len(value) == len(paths)):
            what = f"{shown(value)} does not fit; write a list of {len(paths)} values, one a path"
            yield document.value_mark((SWEEP, key, index)).problem((SWEEP, key), what)


def _repeated(document: Document, key: str, values: list[Any]) -> Iterator[Problem]:
    for index, value in enumerate(values):
        if value in values[:index]:
            what = f"{shown(value)} occurs twice; write each value once"
            yield document.value_mark((SWEEP, key, index)).problem((SWEEP, key), what)
