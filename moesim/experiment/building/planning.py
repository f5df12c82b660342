"""Where the experts of a run are: its planner, given the first part of the run's passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import ceil

import numpy as np

from moesim.config.registry import answering, wrong_answer
from moesim.engine.case import Case
from moesim.engine.routing import Routing
from moesim.experiment.schema.experiment import Experiment
from moesim.model.spec import ModelSpec
from moesim.placement.base import Learning, Plan, Planner, rebalance_of
from moesim.placement.contiguous import Contiguous
from moesim.placement.mapping import Ints, Placement
from moesim.placement.rebalance import Rebalance
from moesim.placement.task import Task


def neighbours(model: ModelSpec, gpus: int) -> Placement:
    """The contiguous placement of ``model``."""
    experts = max(layer.moe.experts for layer in model.moe_layers if layer.moe)
    nothing = np.zeros((0, len(model.moe_layers), experts), np.int64)
    return Placement.of(Contiguous().place(Task(gpus, nothing)), gpus)


def placement_of(experiment: Experiment, case: Case) -> Placement:
    """What the experiment's planner makes of ``case``, whatever its own placement."""
    plan = plan_of(experiment.placement, task_of(experiment, experiment.placement, case))
    return Placement.of(plan.physical_to_logical, case.holders)


def plan_of(planner: Planner, task: Task) -> Plan:
    """The plan of ``planner``; an InputError where a GPU would have no expert, or one is nowhere.

    Plug-ins are trusted no further than this.
    """
    with answering("placement", planner):
        plan: object = planner.plan(task)
    if not isinstance(plan, Plan):
        raise wrong_answer("placement", planner, f"gives {type(plan).__name__}, not a Plan")
    planner.check(plan.physical_to_logical, task)
    return plan


def rules_of(planner: Planner, begun: Placement) -> Rebalance | None:
    """How ``planner`` plans anew during a run that has ``begun`` so; what it gives then is checked
    as the first plan is. Raises InputError as ``rebalance_of`` does.
    """
    rules = rebalance_of(planner)
    if rules is None:
        return None
    return rules._replace(plan=partial(_anew, planner, rules.plan, begun.physical))


def _anew(
    planner: Planner, plan: Callable[[Ints, int], Ints], physical: int, loads: Ints, gpus: int
) -> Ints:
    """What ``plan`` makes of ``loads``; an InputError where it has not as many ``physical`` experts
    as the run, or any other fault.
    """
    with answering("placement", planner):
        placed = plan(loads, gpus)
    planner.check(placed, Task(gpus, loads[None]))
    if placed.shape[1] != physical:
        what = f"gives {placed.shape[1]} physical experts during the run, which has {physical}"
        raise wrong_answer("placement", planner, what)
    return placed


def planning_passes(planner: Planner, passes: int) -> int:
    """How many of the run's first ``passes`` the planner learns from; 0 where it learns from
    none.
    """
    if not isinstance(planner, Learning) or planner.rebalances is not None:
        return 0
    return ceil(Fraction(str(planner.first_part)) * passes)


def task_of(experiment: Experiment, planner: Planner, case: Case) -> Task:
    """The planner's question: the choices of the run's first part."""
    first = planning_passes(planner, case.schedule.passes)
    routing = Routing(replace(case, schedule=case.schedule.first(first)))
    shape = (0, len(routing.moe_layers), routing.logical)
    counts = [np.zeros(shape, np.int64)]
    counts += [routing.choices(*piece).sum(axis=2) for piece in routing.pieces()]
    ids = case.trace.expert_ids[routing.case.schedule.routing_rows]
    return Task(case.holders, np.concatenate(counts), ids, experiment.seed, experiment.folders)
