"""Where experts are placed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.config.files.paths import find
from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.asked import experts_of
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.placement.base import rebalance_of
from moesim.placement.plan import PlanFile, read_plan

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def nothing_to_place(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Sliced experts are on every GPU."""
    del model
    kind = kind_of(type(experiment.placement))
    asked = experiment.parallelism
    if not 1 < asked.slices == asked.expert or kind == "contiguous":
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


def rebalanced_alone(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What experts that get other places during a run do not go together with."""
    rules, room = rebalance_of(experiment.placement), experiment.experts
    if rules is None:
        return None
    parallel, gating = experiment.parallelism, experiment.gating
    held = room.capacity.kind == "all" and not room.variants
    held = held and not (experiment.host_layers or experiment.offload_layers)
    layers = len(model.moe_layers) if model is not None else 0
    wrong = {
        "experts.capacity": not held and "experts that are not all on GPUs yet; write all",
        "parallelism.expert": parallel.expert == 1 and "one GPU, which has them all",
        "parallelism.experts": parallel.slices > 1 and "a part of each on every GPU",
        "parallelism.pipeline": parallel.pipeline > 1 and "layers on GPUs of their own yet",
        "gating": (gating.invokes_all or not gating.uneven)
        and f"'{kind_of(type(gating))}' gating, which pads; write dynamic",
        "placement.mode": rules.one_by_one
        and rules.interval <= layers
        and f"async, a layer a pass: {layers} take longer; write a longer interval",
        "model": model is not None and model.has_encoder and "a model with an encoder yet",
    }
    said = "experts that get other places during the run do not go together with"
    return first_wrong(("placement.interval",), said, wrong)


RULES: tuple[Rule, ...] = (
    rebalanced_alone,
    nothing_to_place,
    plan_for_this_run,
    replicas_need_uneven_splits,
)
