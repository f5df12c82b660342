"""The points of a sweep: every combination of its axes' values, each a whole experiment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moesim.config.document import Document, Mark, Steps
from moesim.config.errors import InputError, Problem
from moesim.config.strict_yaml.overrides import parse_path
from moesim.experiment.loading.assess import Finding, assess
from moesim.experiment.loading.of_software import with_scheduler
from moesim.experiment.schema.axes import SWEEP, Axis
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.setting import with_setting
from moesim.trace.cards import scaled_from

MOST_POINTS = 100_000
SweepPoints = list[tuple[dict[str, Any], Experiment]]


@dataclass(frozen=True)
class Point:
    """One combination: the index of each axis's value, and what each path is set to."""

    indices: tuple[int, ...]
    settings: dict[str, Any]


def combinations(axes: Sequence[Axis]) -> Iterator[Point]:
    """All combinations, the first axis slowest."""
    for indices in itertools.product(*(range(len(axis.values)) for axis in axes)):
        pairs = zip(axes, indices, strict=True)
        settings = [zip(axis.paths, axis.values[i], strict=True) for axis, i in pairs]
        yield Point(indices, dict(itertools.chain(*settings)))


def point_document(base: Document, point: Point) -> Document:
    """``base`` without its sweep and with the point's settings, kinds first.

    Settings that cannot be made are among the document's problems.
    """
    data = {key: value for key, value in base.data.items() if key != SWEEP}
    document = Document(data, Mark(base.start.source))
    problems: list[Problem] = []
    for path in sorted(point.settings, key=lambda path: not path.endswith(".kind")):
        steps = parse_path(path)
        try:
            document = with_setting(document, steps, point.settings[path], document.start)
        except InputError as error:
            problems += error.problems
    return replace(document, problems=tuple(problems))


def assess_points(
    base: Document, axes: Sequence[Axis], folders: tuple[Path, ...], known: Sequence[Finding]
) -> tuple[SweepPoints, list[Problem]]:
    """Axes and experiment of every point, and the problems that the axes' values bring.

    ``known`` are the base's own findings, which are not repeated.
    """
    if not axes:
        return [], []
    size = math.prod(len(axis.values) for axis in axes)
    if size > MOST_POINTS:
        what = f"{size:,} points are too many; {MOST_POINTS:,} or less"
        return [], [base.key_mark((SWEEP,)).problem((SWEEP,), what)]
    old = {(finding.problem.path, finding.problem.what) for finding in known}
    points, problems = [], []
    for point in combinations(axes):
        document = with_scheduler(point_document(base, point), folders)
        experiment, findings = assess(document, folders)
        problems += [
            _at_value(base, axes, point, finding)
            for finding in findings
            if not _is_known(finding.problem, old)
        ]
        if experiment is not None:
            points.append((point.settings, experiment))
    return _of_one_trace(points), problems


def _of_one_trace(points: SweepPoints) -> SweepPoints:
    """The points of a model that names no trace with one for all: a stand-in where one of them
    takes it.
    """
    drawn = {_routed(one): one.trace for _, one in points if scaled_from(one.trace) is not None}
    return [
        (settings, one.with_default_trace(drawn.get(_routed(one), one.trace)))
        if "trace" not in one.model_fields_set
        else (settings, one)
        for settings, one in points
    ]


def _routed(experiment: Experiment) -> tuple[str, str]:
    return experiment.model, experiment.workload.phase


def _is_known(problem: Problem, old: set[tuple[str, str]]) -> bool:
    """Whether the base has the problem, or one with what holds the value."""
    above = any(problem.path.startswith(f"{path}.") for path, _ in old)
    return above or (problem.path, problem.what) in old


def _at_value(base: Document, axes: Sequence[Axis], point: Point, finding: Finding) -> Problem:
    """The finding at the axis value that causes it: the last of them."""
    problem = finding.problem
    axis, entry = _cause(axes, finding)
    index = point.indices[axis]
    place: Steps = (SWEEP, axes[axis].key, index)
    own = _related(axes[axis].paths[entry], problem.path)
    if len(axes[axis].paths) > 1 and own:
        place = (*place, entry)
    what = problem.what if own else f"with this value, {_elsewhere(base, problem)}"
    return base.value_mark(place).problem((SWEEP, axes[axis].key), what)


def _elsewhere(base: Document, problem: Problem) -> str:
    """The problem at another key, or in a file that the value names: there with its place."""
    here = problem.where.startswith((base.start.source, "--set"))
    return ": ".join(
        part for part in ("" if here else problem.where, problem.path, problem.what) if part
    )


def _cause(axes: Sequence[Axis], finding: Finding) -> tuple[int, int]:
    candidates = [
        (axis, entry)
        for axis, one in enumerate(axes)
        for entry, path in enumerate(one.paths)
        if any(_related(path, cause) for cause in finding.causes)
    ]
    return candidates[-1] if candidates else (len(axes) - 1, 0)


def _related(path: str, other: str) -> bool:
    """Whether one of two dotted paths holds the other."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
