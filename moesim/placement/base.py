"""Placement: which GPU holds which expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer
from moesim.config.units import Percent
from moesim.placement.mapping import Ints
from moesim.placement.objective import Bound, lower_bound
from moesim.placement.rebalance import Rebalance
from moesim.placement.task import Folders, Task

__all__ = [
    "Ints", "Learning", "Plan", "Planner", "plan_of_gpus", "rebalance_of",
]  # fmt: skip


FEWEST = {"interval": 1, "window": 1, "planning_ns": 0}
"""Of the numbers of a ``Rebalance``."""


@dataclass(frozen=True, eq=False)
class Plan:
    """``physical_to_logical`` int64[MoE layers, physical] (docs/semantics.md), and what no plan
    with as many experts on every GPU goes below: the largest share of a GPU in any planning batch.
    ``note``: what a reader of the plan should know, in a sentence.
    """

    physical_to_logical: Ints
    lower_bound: Bound
    note: str = ""


class Planner(Params):
    """A placement planner; ``learns`` from the first part of the run."""

    learns: ClassVar[bool] = False

    @property
    def rebalances(self) -> Rebalance | None:
        """How it plans anew during the run; then it learns from nothing before."""
        return None

    def place(self, task: Task) -> Ints:
        """The logical expert of every physical one, int64[MoE layers, physical]: GPUs hold runs of
        them, the first one more where they do not divide.
        """
        raise NotImplementedError

    def plan(self, task: Task) -> Plan:
        """The placement, and a lower bound on what it minimises."""
        placed = self.place(task)
        self.check(placed, task)
        return Plan(placed, lower_bound(task, placed.shape[1]))

    def check(self, placed: object, task: Task) -> None:
        """An InputError where ``placed`` is no answer to ``task``."""
        if fault := fault_of_placed(placed, task):
            raise wrong_answer("placement", self, fault)

    def spare(self, experts: int, folders: Folders = ()) -> int:
        """Physical experts of a layer beyond its logical ``experts``; files are looked up in
        ``folders``.
        """
        return 0


def fault_of_placed(placed: object, task: Task) -> str:
    """What is wrong with experts ``placed`` for ``task``; "": nothing."""
    if not isinstance(placed, np.ndarray):
        return f"gives {type(placed).__name__}, not an array of experts"
    if placed.ndim != 2 or len(placed) != task.layers:  # noqa: PLR2004 (layers, physical experts)
        return f"gives experts of shape {placed.shape}, not [{task.layers} MoE layers, physical]"
    if not np.issubdtype(placed.dtype, np.integer):
        return f"gives experts that are {placed.dtype}, not whole numbers"
    every = np.arange(task.experts)
    if not all(np.array_equal(np.unique(row), every) for row in placed):
        return f"does not place each of {task.experts} experts"
    return ""


def rebalance_of(planner: Planner) -> Rebalance | None:
    """How ``planner`` plans anew during the run; an InputError where it says nothing of the
    kind.
    """
    with answering("placement", planner):
        rules: object = planner.rebalances
    if rules is not None and not isinstance(rules, Rebalance):
        raise wrong_answer("placement", planner, f"rebalances by {rules!r}, not by a Rebalance")
    for name, least in FEWEST.items() if rules else ():
        number = getattr(rules, name)
        if not isinstance(number, int | np.integer) or number < least:
            what = f"rebalances with '{name}' {number!r}, not a whole number from {least} on"
            raise wrong_answer("placement", planner, what)
    return rules


class Learning(Planner):
    """A planner that learns from the first part of the run's forward passes."""

    learns: ClassVar[bool] = True
    first_part: Annotated[
        Percent,
        Field(gt=0, description="Share of the run's forward passes, from its start, to plan from."),
    ] = 0.5


def plan_of_gpus(gpu_of_expert: NDArray[np.int64], layers: int) -> Ints:
    """The plan int64[layers, experts] without replicas from each expert's GPU, int64[layers,
    experts], or int64[experts] for all layers.
    """
    return np.argsort(np.broadcast_to(gpu_of_expert, (layers, gpu_of_expert.shape[-1])), axis=1,
                      kind="stable")  # fmt: skip


def rows_between_gpus(sent: Ints, gpu_of_expert: Ints) -> Ints:
    """Rows int64[..., sender, receiver] of those ``sent`` to experts int64[..., sender, expert]."""
    gpus = sent.shape[-2]
    receives = (gpu_of_expert[:, None] == np.arange(gpus)).astype(np.float64)
    rows: Ints = (sent.astype(np.float64) @ receives).astype(np.int64)  # exact below 2**53
    return rows
