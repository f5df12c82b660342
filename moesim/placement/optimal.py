"""The best placement of small cases, with a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from moesim.config.counted import counted
from moesim.placement.base import Ints, Learning, Plan, plan_of_gpus
from moesim.placement.local_search import LocalSearch, gpus_of_plan
from moesim.placement.objective import gpu_shares, layer_bound, score
from moesim.placement.task import Floats, Task

BATCHES = 8
"""Batches that are added to a program at a time."""
EXACT = 1e-9


class Optimal(Learning):
    """A mixed-integer program for each layer, from the placement of local search on.

    It minimises the largest share of a GPU in any batch. A layer with more than ``variables``
    (experts x GPUs), or whose program needs more than ``search_nodes`` of its tree, keeps the best
    that was found; its bound is then lower.
    """

    kind: Literal["optimal"] = "optimal"
    variables: int = Field(
        default=64,
        ge=1,
        description="Experts x GPUs up to which a layer is solved; some hundred take minutes each.",
    )
    search_nodes: int = Field(
        default=1000, ge=1, description="Nodes of the search tree after which a program stops."
    )

    def place(self, task: Task) -> Ints:
        """The plan alone."""
        return self.plan(task).physical_to_logical

    def plan(self, task: Task) -> Plan:
        """The plan, and the bound of its worst layer."""
        starts = gpus_of_plan(LocalSearch().place(task), task)
        solved = [self._layer(task, layer, start) for layer, start in enumerate(starts)]
        placed = np.array([gpus for gpus, _, _ in solved])
        bound = max(bound for _, bound, _ in solved) if task.counts.any() else None
        return Plan(plan_of_gpus(placed, task.layers), bound, self._note(task, solved))

    def _note(self, task: Task, solved: list[tuple[Ints, float, float]]) -> str:
        """In how many layers the plan is proved to be the best, and why it is not in others."""
        best = sum(least <= bound + EXACT for _, bound, least in solved)
        told = f"optimal: proved best in {best} of {counted(len(solved), 'layer')}"
        size = task.experts * task.gpus
        if best == len(solved):
            return told
        why = f"needed more than search_nodes: {self.search_nodes}"
        if size > self.variables:
            why = f"are local_search's: {size} experts x GPUs are above variables: {self.variables}"
        return f"{told}; the others {why}"

    def _layer(self, task: Task, layer: int, start: Ints) -> tuple[Ints, float, float]:
        """The GPU of each expert, the bound, and what the placement reaches."""
        shares = task.shares(layer)
        best, bound = start, layer_bound(shares, task.room)
        least = score(shares, start, task.gpus)[0]
        small = task.experts * task.gpus <= self.variables
        found, used = start, np.empty(0, np.int64)
        while small and least > bound + EXACT:
            more = _fuller(gpu_shares(shares, found, task.gpus).max(axis=1), used)
            if not len(more):
                break
            used = np.append(used, more)
            program = _Program(shares[used], task.room, shares.mean(axis=0))
            answer, proved = program.solve(bound, self.search_nodes)
            bound = max(bound, proved)
            if answer is None:
                break
            found = answer
            reached = score(shares, found, task.gpus)[0]
            if reached < least:
                best, least = found, reached
        return best, min(bound, least), least


def _fuller(largest: Floats, used: Ints) -> Ints:
    """The batches that are fuller than all ``used``, the fullest first, a few at a time."""
    order = np.argsort(-largest, kind="stable")
    fuller: Ints = order[largest[order] > largest[used].max(initial=0.0) + EXACT]
    return fuller[:BATCHES]


@dataclass(frozen=True, eq=False)
class _Program:
    """Assign experts to GPUs with ``room`` int64[gpus], for ``shares`` [batches, experts]."""

    shares: Floats
    room: Ints
    mean: Floats

    def solve(self, bound: float, nodes: int) -> tuple[Ints | None, float]:
        """The GPU int64[experts] of each, None where none was found; and what was proved.

        Variables are expert by expert, GPU by GPU, then the largest share, at least ``bound``.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import block_array, csr_array, eye_array, kron

        batches, experts = self.shares.shape
        gpus = len(self.room)
        once = kron(eye_array(experts), np.ones((1, gpus)))
        room = kron(np.ones((1, experts)), eye_array(gpus))
        loads = kron(csr_array(self.shares), eye_array(gpus))
        largest = csr_array(np.full((batches * gpus, 1), -1.0))
        matrix: Any = block_array([[once, None], [room, None], [loads, largest]], format="csr")
        equal = np.concatenate([np.ones(experts), self.room])
        low = np.concatenate([equal, np.full(batches * gpus, -np.inf)])
        high = np.concatenate([equal, np.zeros(batches * gpus)])
        whole = np.append(np.ones(experts * gpus), 0)
        answer = milp(
            np.append(np.zeros(experts * gpus), 1),
            integrality=whole,
            bounds=Bounds(np.append(np.zeros(experts * gpus), bound), np.append(self._may(), 1)),
            constraints=LinearConstraint(matrix, low, high),
            options={"node_limit": nodes, "mip_rel_gap": 0},
        )
        proved = bound if answer.mip_dual_bound is None else float(answer.mip_dual_bound)
        if answer.x is None:
            return None, proved
        return answer.x[:-1].reshape(experts, gpus).argmax(axis=1), proved

    def _may(self) -> Floats:
        """Equal GPUs are interchangeable: the n-th busiest expert is on one of the first n."""
        experts, gpus = self.shares.shape[1], len(self.room)
        may = np.ones((experts, gpus))
        if (self.room == self.room[0]).all():
            may[np.argsort(-self.mean, kind="stable")] = np.tril(may)
        return may.ravel()
