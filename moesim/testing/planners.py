"""What every placement planner keeps."""

from __future__ import annotations

import numpy as np

from moesim.placement.base import Planner, fault_of_placed
from moesim.placement.mapping import Placement, room_of_gpus
from moesim.placement.task import Task


def places_every_expert(planner: Planner, task: Task) -> None:
    """Each logical expert in each MoE layer, once but for the spare ones; as many on every GPU, but
    for one.

    ``task.experts`` must be at least ``task.gpus``.
    """
    placed, name = planner.place(task), type(planner).__name__
    fault = fault_of_placed(placed, task)
    assert not fault, f"{name} {fault}"
    spare = planner.spare(task.experts, task.folders)
    shape = (task.layers, task.experts + spare)
    assert placed.shape == shape, f"{name}: a plan of {placed.shape}, not {shape}"
    held = np.bincount(Placement.of(placed, task.gpus).gpu_of_expert, minlength=task.gpus)
    expected = room_of_gpus(shape[1], task.gpus)
    assert np.array_equal(held, expected), f"{name}: {held.tolist()} experts on GPUs"


def is_deterministic(planner: Planner, task: Task) -> None:
    """The same question has the same answer."""
    one, other = planner.place(task), planner.place(task)
    assert np.array_equal(one, other), f"{type(planner).__name__} places differently each time"


def bounds_what_it_reaches(planner: Planner, task: Task) -> None:
    """No GPU's largest share of a planning batch is below the plan's lower bound."""
    plan, name = planner.plan(task), type(planner).__name__
    if plan.lower_bound is None:
        assert not task.counts.any(), f"{name}: no bound, but batches to plan from"
        return
    placement = Placement.of(plan.physical_to_logical, task.gpus)
    rows = placement.spread(task.counts[:, :, None, :])[:, :, 0]
    held = placement.gpu_of_expert[:, None] == np.arange(task.gpus)
    shares = (rows @ held.astype(np.int64)) / np.maximum(rows.sum(axis=2), 1)[:, :, None]
    reached = float(shares.max(initial=0.0))
    assert reached >= plan.lower_bound - 1e-9, f"{name}: {reached} is below {plan.lower_bound}"
