"""Planners on an experiment: what they plan, and how it holds on the rest of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from moesim.config.errors import InputError
from moesim.config.files.files import write_whole
from moesim.config.files.inputs import InputFile
from moesim.config.plain import plain_data
from moesim.engine.case import Case, Ints
from moesim.engine.counts import Loads
from moesim.engine.progress import Progress
from moesim.engine.routing import Routing
from moesim.experiment.building.build import build
from moesim.experiment.building.planning import plan_of, planning_passes, task_of
from moesim.experiment.schema.experiment import Experiment
from moesim.metrics.balance import balance, rows_of_gpus
from moesim.placement import registry
from moesim.placement.base import Learning, Plan, Planner
from moesim.placement.eplb import Eplb
from moesim.placement.greedy import Greedy
from moesim.placement.mapping import Placement
from moesim.placement.plan import plan_maps
from moesim.placement.task import Task
from moesim.results.provenance import installed

FORMAT = 1
"""The version of a plan's file."""

Numbers = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Judged:
    """A plan, what it took, and its balance over the planning part, the rest and the whole run.

    ``stays``: the share of the rest's choices whose token's next choices, in the next MoE layer,
    are on the same GPU; None with replicas, which leave that open.
    """

    name: str
    planner: Planner
    plan: Plan
    seconds: float
    balance: Mapping[str, Numbers]
    stays: float | None

    def numbers(self) -> dict[str, Any]:
        """All as plain data, but for the plan's maps."""
        return {
            "name": self.name,
            "planner": plain_data(self.planner),
            "physical_experts": int(self.plan.physical_to_logical.shape[1]),
            "lower_bound": self.plan.lower_bound,
            **self.balance,
            "stays_on_gpu": self.stays,
            "note": self.plan.note,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, eq=False)
class Judgement:
    """Plans of one run of ``passes`` forward passes over what ``trace`` held, made from the first
    ``planned`` ones.
    """

    gpus: int
    passes: int
    planned: int
    plans: Sequence[Judged]
    trace: InputFile


def judge_planners(
    experiment: Experiment, *, compare: bool = False, progress: Progress | None = None
) -> Judgement:
    """The experiment's own planner; with ``compare`` every registered one after it, each with its
    defaults, from the same passes. ``progress`` is told how many have planned, and of how many.
    """
    if 1 < experiment.parallelism.slices == experiment.parallelism.expert:
        what = "tensor leaves nothing to place: every GPU holds a part of each expert; write expert"
        raise InputError(f"parallelism.experts: {what}")
    built = build(experiment)
    case = built.case
    learner = experiment.placement
    if not isinstance(learner, Learning):
        learner = Greedy()
    planned = planning_passes(learner, case.schedule.passes)
    task = task_of(experiment, learner, case)
    planners = {_name(experiment.placement): experiment.placement}
    if compare:
        planners |= _all(case.gpus, learner.first_part)
    made = {}
    for number, (name, planner) in enumerate(planners.items(), start=1):
        made[name] = _timed(planner, task)
        if progress is not None:
            progress(number, len(planners))
    placed = [Placement.of(plan.physical_to_logical, case.gpus) for plan, _ in made.values()]
    loads, stays = _loads(case, placed), _stays(case, planned, placed)
    judged = [
        Judged(name, planners[name], *made[name], _balances(load, planned), staying)
        for name, load, staying in zip(made, loads, stays, strict=True)
    ]
    (trace,) = built.inputs["trace", experiment.trace]
    return Judgement(case.gpus, case.schedule.passes, planned, judged, trace)


def write_plan(experiment: Experiment, judgement: Judgement, path: Path) -> None:
    """Write the first plan: EPLB's three maps, and where they come from."""
    judged, trace = judgement.plans[0], judgement.trace
    content = {
        "format": FORMAT,
        "moesim": installed("moesim"),
        "model": experiment.model,
        "trace": {"path": str(trace.path.resolve()), "sha256": trace.sha256},
        "seed": experiment.seed,
        "passes": judgement.passes,
        "planned_passes": judgement.planned if isinstance(judged.planner, Learning) else 0,
        **judged.numbers(),
        **plan_maps(judged.plan.physical_to_logical, judgement.gpus),
    }
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    write_whole(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _all(gpus: int, first_part: float) -> dict[str, Planner]:
    """Every planner that needs no parameter, and EPLB with one more expert on every GPU."""
    needs_none = (
        kind for kind, planner in registry.components.items()
        if not any(field.is_required() for field in planner.model_fields.values())
    )  # fmt: skip
    planners = [registry.get(kind)() for kind in needs_none]
    if gpus > 1:
        planners.append(Eplb(redundant=gpus))
    same = {"first_part": first_part}
    learnt = [one.model_copy(update=same) if isinstance(one, Learning) else one for one in planners]
    return {_name(planner): planner for planner in learnt}


def _name(planner: Planner) -> str:
    """The kind, with what is not its default; the first part is that of the whole table."""
    kind = str(getattr(planner, "kind", type(planner).__name__))
    given = plain_data(planner)
    fields = type(planner).model_fields
    told = [
        f"{name} {given[name]}"
        for name, field in fields.items()
        if name not in ("kind", "first_part") and getattr(planner, name) != field.get_default()
    ]
    return ", ".join([kind, *told])


def _timed(planner: Planner, task: Task) -> tuple[Plan, float]:
    begun = perf_counter()
    plan = plan_of(planner, task)
    return plan, perf_counter() - begun


def _loads(case: Case, placed: Sequence[Placement]) -> list[Ints]:
    """Rows int64[passes, MoE layers, gpus] of each placement, as dynamic gating routes them."""
    routing = Routing(case)
    parts: list[list[Ints]] = [[] for _ in placed]
    for piece in routing.pieces():
        choices = routing.choices(*piece)
        for part, one in zip(parts, placed, strict=True):
            rows = one.spread(choices).sum(axis=2)
            part.append(rows_of_gpus(rows, one.gpu_of_expert, case.gpus))
    return [np.concatenate(part) for part in parts]


def _balances(loads: Ints, planned: int) -> dict[str, Numbers]:
    parts = {"planned": loads[:planned], "rest": loads[planned:], "whole": loads}
    return {name: balance(Loads.of(part)) for name, part in parts.items()}


def _stays(case: Case, planned: int, placed: Sequence[Placement]) -> list[float | None]:
    """The share of choices and next choices that are on one GPU, over the passes after
    ``planned``.
    """
    schedule, routing = case.schedule, Routing(case)
    ids = case.trace.expert_ids[schedule.routing_rows[schedule.offsets[planned] :]]
    shape = (0, len(routing.moe_layers), routing.logical)
    task = Task(case.gpus, np.zeros(shape, np.int64), ids)
    gpus = [None if one.has_replicas else _gpu_of_logical(one) for one in placed]
    kept, total = np.zeros(len(placed), np.int64), 0
    for layer in range(task.layers - 1):
        pairs = task.follows(layer)
        total += int(pairs.sum())
        for number, of in enumerate(gpus):
            if of is not None:
                kept[number] += pairs[of[layer][:, None] == of[layer + 1]].sum()
    return [
        None if of is None or not total else float(part / total)
        for of, part in zip(gpus, kept, strict=True)
    ]


def _gpu_of_logical(placement: Placement) -> Ints:
    gpus = np.empty_like(placement.logical)
    seats = np.broadcast_to(placement.gpu_of_expert, gpus.shape)
    np.put_along_axis(gpus, placement.logical, seats, axis=1)
    return gpus
