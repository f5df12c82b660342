"""The files that an experiment reads, opened to see whether they fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.config.errors import InputError, Problem, in_order
from moesim.config.paths import find, look_up
from moesim.config.registry import kind_of
from moesim.experiment.names import loaded
from moesim.experiment.schema import Experiment
from moesim.experiment.traces import trace_of
from moesim.placement.plan import PlanFile

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace

_NAMING = ("trace", "model", "hardware", "software")


def _named_files(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """What names a file, or something shipped, and the name."""
    for key in _NAMING:
        yield key, str(getattr(experiment, key))
    if isinstance(experiment.placement, PlanFile):
        yield "plan", experiment.placement.file


def input_files(experiments: Iterable[Experiment]) -> dict[str, Path]:
    """The files that ``experiments`` name by path (shipped names are no paths), by what names
    them.
    """
    named = {
        named_file: experiment.folders
        for experiment in experiments
        for named_file in _named_files(experiment)
    }
    found = {f"{key} {name}": look_up(name, folders) for (key, name), folders in named.items()}
    return {name: path for name, path in found.items() if path is not None and path.is_file()}


def provenance_of(experiment: Experiment) -> dict[str, Any]:
    """What it takes to run ``experiment`` again: versions, and the digests of what it reads."""
    from moesim.results.provenance import provenance

    inputs = {"trace": find(experiment.trace, experiment.folders)}
    for key, name in _named_files(experiment):
        path = look_up(name, experiment.folders)
        if path is not None and path.is_file():
            inputs[key] = path
    return provenance(inputs, seed=experiment.seed)


def check_inputs(experiments: Iterable[Experiment]) -> None:
    """Read every trace and model; an InputError names those that are damaged or do not fit."""
    pairs: dict[tuple[str, str, tuple[bool, bool]], Experiment] = {}
    for experiment in experiments:
        columns = (
            experiment.experts.policy.weighs or experiment.gating.weighs,
            experiment.experts.prefetch.recorded,
        )
        pairs.setdefault((experiment.trace, experiment.model, columns), experiment)
    problems: list[Problem] = []
    for experiment in pairs.values():
        try:
            _check_pair(experiment)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(in_order(problems))


def _check_pair(experiment: Experiment) -> None:
    trace = trace_of(experiment)
    model = loaded("model", experiment.model, experiment.folders)
    if model is not None:
        trace.check_fits(model)
    check_columns(experiment, trace)


def check_columns(experiment: Experiment, trace: RoutingTrace) -> None:
    """Raise an InputError where the policy or the gating reads gate weights, or the prefetcher a
    recorded look-ahead, and ``trace`` has none.
    """
    prefetch = experiment.experts.prefetch
    if prefetch.recorded and trace.predicted_ids is None:
        what = f"'{kind_of(type(prefetch))}' reads the experts that a look-ahead predicted, and the"
        what += " trace has no predicted_ids; record them, or take history, next_layer or oracle"
        raise InputError([Problem(experiment.trace, "experts.prefetch", what)])
    if trace.gate_weights is not None:
        return
    policy, gating = experiment.experts.policy, experiment.gating
    readers = [
        (policy.weighs, "experts.policy", kind_of(type(policy)), "another policy"),
        (gating.weighs, "gating.drop", gating.drops, "drop: first_come, or random"),
    ]
    problems = [
        Problem(
            experiment.trace,
            path,
            f"'{name}' reads gate weights, and the trace has none; record a trace with weights, or"
            f" take {remedy}",
        )
        for weighs, path, name, remedy in readers
        if weighs
    ]
    if problems:
        raise InputError(problems)
