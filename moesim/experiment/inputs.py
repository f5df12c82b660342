"""The files that an experiment reads, opened to see whether they fit together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.config.errors import InputError, Problem, in_order
from moesim.config.paths import find, look_up
from moesim.experiment.names import loaded
from moesim.experiment.schema import Experiment

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace

_NAMING = ("trace", "model", "hardware", "software")


def input_files(experiments: Iterable[Experiment]) -> dict[str, Path]:
    """The files that ``experiments`` name by path (shipped names are no paths), by what names
    them.
    """
    named = {
        (key, str(getattr(experiment, key))): experiment.folders
        for experiment in experiments
        for key in _NAMING
    }
    found = {f"{key} {name}": look_up(name, folders) for (key, name), folders in named.items()}
    return {name: path for name, path in found.items() if path is not None and path.is_file()}


def check_inputs(experiments: Iterable[Experiment]) -> None:
    """Read every trace and model; an InputError names those that are damaged or do not fit."""
    pairs: dict[tuple[str, str, bool], Experiment] = {}
    for experiment in experiments:
        weighs = experiment.experts.policy.weighs
        pairs.setdefault((experiment.trace, experiment.model, weighs), experiment)
    traces: dict[Path, Any] = {}
    problems: list[Problem] = []
    for experiment in pairs.values():
        try:
            _check_pair(experiment, traces)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(in_order(problems))


def _check_pair(experiment: Experiment, traces: dict[Path, RoutingTrace]) -> None:
    from moesim.trace import read_trace

    path = find(experiment.trace, experiment.folders)
    if path not in traces:
        traces[path] = read_trace(path)
    model = loaded("model", experiment.model, experiment.folders)
    if model is not None:
        traces[path].check_fits(model)
    check_weights(experiment, traces[path])


def check_weights(experiment: Experiment, trace: RoutingTrace) -> None:
    """Raise an InputError where the policy reads gate weights and ``trace`` has none."""
    policy = experiment.experts.policy
    if policy.weighs and trace.gate_weights is None:
        kind = getattr(policy, "kind", type(policy).__name__)
        what = f"'{kind}' reads gate weights, and the trace has none"
        remedy = "record a trace with weights, or take another policy"
        raise InputError([Problem(experiment.trace, "experts.policy", f"{what}; {remedy}")])
