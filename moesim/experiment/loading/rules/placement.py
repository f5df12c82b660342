"""Where experts are placed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.config.paths import find
from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.asked import experts_of
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.placement.plan import PlanFile, read_plan

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def nothing_to_place(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Sliced experts are on every GPU."""
    del model
    kind = kind_of(type(experiment.placement))
    if experiment.parallelism.experts == "expert" or kind == "contiguous":
        return None
    what = f"'{kind}' has nothing to place: every GPU holds a part of each expert"
    return Conflict(
        ("placement", "placement.kind", "parallelism.experts"),
        f"{what}; leave it out, or write parallelism.experts: expert",
    )


def plan_for_this_run(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A plan's file is there, and is for the model and the GPUs."""
    planner, gpus = experiment.placement, experiment.parallelism.expert
    if model is None or not model.moe_layers or not isinstance(planner, PlanFile):
        return None
    try:
        path = find(planner.file, experiment.folders)
        read_plan(path, (len(model.moe_layers), max(experts_of(model))), gpus)
    except InputError as error:
        keys = ("placement.file", "placement", "placement.kind", "model", "parallelism.expert")
        return Conflict(keys, "; ".join(map(str, error.problems)))
    return None


def replicas_need_uneven_splits(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A gating that pads gives every expert its room; it has no rule for replicas."""
    gating = experiment.gating
    if model is None or not model.moe_layers or not (gating.invokes_all or not gating.uneven):
        return None
    spare = experiment.placement.spare(max(experts_of(model)), experiment.folders)
    if spare <= 0:
        return None
    keys = ("placement", "placement.redundant", "placement.file", "gating", "gating.kind")
    what = f"{counted(spare, 'replica')} a layer, but '{kind_of(type(gating))}' gating pads and"
    remedy = "write gating: {kind: dynamic}, or plan without replicas"
    return Conflict(keys, f"{what} takes none; {remedy}")


RULES: tuple[Rule, ...] = (
    nothing_to_place,
    plan_for_this_run,
    replicas_need_uneven_splits,
)
