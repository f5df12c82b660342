"""The files that an experiment reads, opened to see whether they fit together."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from moesim.config.errors import ChangedError, InputError, Problem, in_order
from moesim.config.files.inputs import Inputs, check_same, file_of, recording, tell
from moesim.config.files.paths import find
from moesim.config.registry import kind_of
from moesim.experiment.loading.names import loaded, needed
from moesim.experiment.loading.pieces import models_of
from moesim.experiment.loading.traces import model_of, tell_trace, trace_of
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.choices.gate_cumulative import GateCumulative
from moesim.placement.plan import PlanFile
from moesim.workload.binding import check_domain

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace

_CATALOGUED = ("model", "hardware", "software")


def inputs_of(experiments: Iterable[Experiment]) -> Inputs:
    """Everything that runs of ``experiments`` read, as it is now: what ``Built.inputs`` will be.

    Raises an InputError where something cannot be read.
    """
    with recording() as inputs:
        seen: set[tuple[object, ...]] = set()
        for one in experiments:
            plan = one.placement.file if isinstance(one.placement, PlanFile) else None
            tables = plan, one.quality, tuple(models_of(one)), one.workload.arrivals.reads
            named = (*(getattr(one, key) for key in ("trace", *_CATALOGUED)), *tables, one.folders)
            parts = foreign_parts(one)
            if named not in seen or parts:
                _tell_inputs(one, plan)
            seen.add(named)
    return inputs


def still(inputs: Inputs, experiment: Experiment) -> Inputs:
    """The part of ``inputs`` that ``experiment`` reads; a ChangedError where that is anything else
    by now, or cannot be read any more.
    """
    try:
        found = inputs_of([experiment])
    except ChangedError:
        raise
    except InputError as error:
        raise ChangedError(error.problems) from error
    check_same(inputs, found)
    return found


def _tell_inputs(experiment: Experiment, plan: str | None) -> None:
    for key in _CATALOGUED:
        needed(key, getattr(experiment, key), experiment.folders)
    for name in models_of(experiment):
        needed("model", name, experiment.folders)
    tell_trace(experiment)
    tell_components(experiment)
    if experiment.quality is not None:
        table = experiment.quality.table
        tell("quality", table, [file_of(find(table, experiment.folders))])
    if (arrivals := experiment.workload.arrivals.reads) is not None:
        tell("arrivals", arrivals, [file_of(find(arrivals, experiment.folders))])
    if plan is not None:
        tell("plan", plan, [file_of(find(plan, experiment.folders))])


def tell_components(experiment: Experiment) -> None:
    """Tell the sources of components from outside moesim, whose versions do not speak for them."""
    for part in foreign_parts(experiment):
        source = getattr(sys.modules.get(part.__module__), "__file__", None)
        if source is not None:
            tell("component", part.__name__, [file_of(Path(source))])


def foreign_parts(value: object) -> list[type]:
    """The components in ``value`` that are not moesim's own."""
    if not isinstance(value, BaseModel):
        return []
    own = type(value).__module__.partition(".")[0] == __name__.partition(".")[0]
    return ([] if own else [type(value)]) + [
        part for _, entry in value for part in foreign_parts(entry)
    ]


def check_inputs(experiments: Iterable[Experiment]) -> None:
    """Read every trace and model; an InputError names those that are damaged or do not fit."""
    pairs: dict[tuple[object, ...], Experiment] = {}
    for experiment in experiments:
        columns = (
            experiment.experts.policy.weighs or experiment.gating.weighs,
            _choice_weighs(experiment),
            experiment.experts.prefetch.recorded,
            experiment.workload.routing.domain,
        )
        routing = tuple(experiment.routing)
        pairs.setdefault((experiment.trace, experiment.model, routing, columns), experiment)
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
    if loaded("model", experiment.model, experiment.folders) is not None:
        trace.check_fits(model_of(experiment))
    check_columns(experiment, trace)
    check_domain(
        experiment.workload.routing.domain, tuple(one.name for one in trace.metadata.domains)
    )


def _choice_weighs(experiment: Experiment) -> bool:
    """Whether the choice between variants reads gate weights."""
    room = experiment.experts
    choose = room.choose or GateCumulative()
    return room.variants is not None and (choose.weighs or choose.substitutes)


def check_columns(experiment: Experiment, trace: RoutingTrace) -> None:
    """Raise an InputError where the policy or the gating reads gate weights, or the prefetcher a
    recorded look-ahead, and ``trace`` has none.
    """
    prefetch = experiment.experts.prefetch
    if prefetch.recorded and trace.predicted_ids is None:
        what = f"'{kind_of(type(prefetch))}' reads the experts that a look-ahead predicted, and the"
        what += " trace has no predicted_ids; record them, or take history, next_layer or oracle"
        raise InputError([Problem(experiment.trace, "experts.prefetch", what)])
    if prefetch.recorded and 1 < trace.look_ahead.shape[1] < prefetch.layers:
        what = f"is {prefetch.layers}, and the look-ahead of the trace reaches"
        what += f" {trace.look_ahead.shape[1]}; write as many, or fewer"
        raise InputError([Problem(experiment.trace, "experts.prefetch.layers", what)])
    if trace.gate_weights is not None:
        return
    policy, gating = experiment.experts.policy, experiment.gating
    readers = [
        (policy.weighs, "experts.policy", kind_of(type(policy)), "another policy"),
        (gating.weighs, "gating.drop", gating.drops, "drop: first_come, or random"),
        (
            _choice_weighs(experiment),
            "experts.choose",
            kind_of(type(experiment.experts.choose or GateCumulative())),
            "hot_cold",
        ),
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
