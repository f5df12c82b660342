"""From a file, or a dict, and ``--set`` options to one resolved experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from moesim.config.arguments import check_list
from moesim.config.checking.words import spelled_out
from moesim.config.document import DEFAULT, Document, Mark
from moesim.config.errors import InputError, Problem, in_order
from moesim.config.files.file_kinds import EXPERIMENT, check_kind
from moesim.config.files.paths import look_up, lookup_folders
from moesim.config.plain import plain_data
from moesim.config.strict_yaml.overrides import parse_override
from moesim.config.strict_yaml.yaml import compose_file
from moesim.experiment.loading.assess import assess
from moesim.experiment.loading.of_software import with_scheduler
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.points import SweepPoints, assess_points
from moesim.experiment.schema.axes import read_axes
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.origins import origins_of
from moesim.experiment.schema.setting import with_setting
from moesim.model.named import opened

Source = Path | str | Mapping[str, Any] | Experiment
RESOLVED = "experiment.yaml"
"""The file of a result's folder that is the experiment of its run."""
PYTHON = "experiment"
"""What messages call an experiment that comes from Python, not from a file."""


@dataclass(frozen=True)
class Resolved:
    """A valid experiment; where each value came from; where its paths are looked up; its points;
    the ``file`` that messages name; values as they were ``written``.

    ``origins`` has ``file.yaml:12``, ``--set`` or ``default`` for every dotted path; ``points`` the
    axes (by dotted path) and the experiment of each point, without a sweep the experiment alone.
    """

    experiment: Experiment
    origins: Mapping[str, str]
    folders: tuple[Path, ...]
    points: SweepPoints
    file: Path
    written: Mapping[str, Any]

    @property
    def axes(self) -> tuple[str, ...]:
        """The paths of the axes, none without a sweep."""
        return tuple(self.points[0][0])


@read_once()
def load_experiment(
    source: Source, overrides: Sequence[str] = (), *, alone: bool = False
) -> Resolved:
    """The experiment in the YAML file or dict ``source``, with ``overrides`` (``PATH=VALUE``).

    ``alone``: without the points of its sweep, for what never runs them; its axes are looked at.
    Raises an InputError with all mistakes, sorted by line.
    """
    check_list("overrides", overrides)
    document, folders = _opened(source)
    document = spelled_out(document, Experiment)
    document, problems = _overridden(document, overrides)
    base, document = document, with_scheduler(document, folders)
    experiment, findings = assess(document, folders)
    axes, axis_problems = read_axes(document)
    points, point_problems = assess_points(base, [] if alone else axes, folders, findings)
    problems += [finding.problem for finding in findings] + axis_problems + point_problems
    if experiment is None or problems:
        raise InputError(in_order(problems))
    origins, file = origins_of(experiment, document), Path(PYTHON)
    if isinstance(source, str | Path):
        file = Path(source)
    points = points or [({}, experiment)]
    return Resolved(experiment, origins, folders, points, file, document.data)


def resolved_from(
    source: Source | Resolved, overrides: Sequence[str] = (), *, alone: bool = False
) -> Resolved:
    """``source`` where it is loaded already, else as ``load_experiment`` loads it."""
    if not isinstance(source, Resolved):
        return load_experiment(source, overrides, alone=alone)
    if overrides:
        raise InputError("overrides: this experiment is loaded; give them to load_experiment")
    return source


def sweep_points(source: Source | Resolved, overrides: Sequence[str] = ()) -> SweepPoints:
    """The axes and the experiment of every point, in the order of the axes, the first slowest."""
    return resolved_from(source, overrides).points


def _opened(source: Source) -> tuple[Document, tuple[Path, ...]]:
    """The document of ``source`` and the folders of its relative paths."""
    if isinstance(source, Experiment):
        return Document(plain_data(source), Mark(PYTHON)), source.folders
    if isinstance(source, Mapping):
        return Document(plain_data(source), Mark(PYTHON)), lookup_folders()
    if not isinstance(source, str | PathLike):
        what = f"{source!r} is none; give the path of a file, a dictionary or an Experiment"
        raise InputError([Problem(PYTHON, "", what)])
    path = look_up(source) or Path(source)
    shown = source if Path(source).exists() else path
    _check_no_result(path)
    _check_no_model(path, source)
    document = compose_file(shown)
    if not isinstance(document.data, dict):
        what = "an experiment is keys with values, as in 'model: gpt-oss-20b'"
        raise InputError([document.problem((), what)])
    check_kind(document.data, EXPERIMENT, document.start.source)
    if "name" not in document.data:
        document = document.with_value(("name",), path.stem, Mark(DEFAULT))
    return document, tuple(dict.fromkeys([*_folders_then(path), *lookup_folders(path)]))


def _folders_then(path: Path) -> tuple[Path, ...]:
    """Of the experiment of a result, where its run found files."""
    if path.name != RESOLVED:
        return ()
    from moesim.results.rebuild import folders_then

    return folders_then(path)


def _check_no_result(path: Path) -> None:
    if (path / RESOLVED).is_file():
        what = f"is the folder of a result; its experiment is '{path / RESOLVED}'"
        raise InputError([Problem(str(path), "", what)])


def _check_no_model(path: Path, source: Path | str) -> None:
    if not path.exists() and opened(str(source), ()) is not None:
        remedy = f"'moesim init {source} -o FILE' writes one of it"
        raise InputError([Problem(str(source), "", f"is a model, not an experiment; {remedy}")])


def _overridden(document: Document, overrides: Sequence[str]) -> tuple[Document, list[Problem]]:
    problems: list[Problem] = []
    for number, text in enumerate(overrides, 1):
        try:
            path, value, mark = parse_override(text)
            document = with_setting(document, path, value, replace(mark, column=number))
        except InputError as error:
            problems += error.problems
    return document, problems
