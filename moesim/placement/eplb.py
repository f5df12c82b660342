"""DeepSeek's Expert Parallelism Load Balancer."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Duration, Percent
from moesim.placement.base import Ints, Learning
from moesim.placement.mapping import room_of_gpus
from moesim.placement.packing import balanced_packing, replicated
from moesim.placement.rebalance import Rebalance
from moesim.placement.task import Floats, Folders, Task

MOST_REDUNDANT = 1024
"""Redundant experts of a layer; a plan compares all pairs of its physical experts."""


class Eplb(Learning):
    """Replicate the experts with most tokens, then pack the replicas onto GPUs.

    Hierarchical where ``groups`` divide by ``nodes`` (and nodes divide the rest): groups of experts
    go to nodes, replicas are made within a node; else global
    (github.com/deepseek-ai/EPLB, ``rebalance_experts``).
    """

    kind: Literal["eplb"] = "eplb"
    redundant: int = Field(
        default=0,
        ge=0,
        le=MOST_REDUNDANT,
        description="Physical experts of a layer beyond its logical ones.",
    )
    groups: int = Field(
        default=1, ge=1, description="Groups of experts that the gate selects by (DeepSeek-V3: 8)."
    )
    nodes: int = Field(default=1, ge=1, description="Nodes over which the GPUs are spread.")
    interval: int | None = Field(
        default=None,
        ge=1,
        description="Passes after which experts are planned anew, from what the last 'window' "
        "chose; the run begins with neighbours. By default one plan, from the first part.",
    )
    window: int = Field(default=1000, ge=1, description="Passes whose loads a new plan is from.")
    mode: Literal["sync", "async"] = Field(
        default="sync",
        description="Whether all layers move at once and GPUs wait, or one a pass beside it, for "
        "which the pass's first collective waits.",
    )
    min_utilization: Percent = Field(
        default=1.0,
        description="Nothing is planned anew where the mean GPU has more than this share of the "
        "rows of the busiest one.",
    )
    planning: Duration = Field(
        default=0.0, description="What a new plan takes, for which GPUs wait under 'sync'."
    )

    @property
    def rebalances(self) -> Rebalance | None:
        """See ``Planner``."""
        if self.interval is None:
            return None
        return Rebalance(
            interval=self.interval,
            window=self.window,
            plan=self._replan,
            one_by_one=self.mode == "async",
            least=self.min_utilization,
            planning_ns=round(self.planning),
        )

    def _replan(self, loads: Ints, gpus: int) -> Ints:
        physical = loads.shape[1] + self.redundant
        return rebalance_experts(loads.astype(np.float64), physical, self.groups, self.nodes, gpus)

    def place(self, task: Task) -> Ints:
        """The map of the published algorithm, with the tokens of the planning part as weights."""
        physical = task.experts + self.redundant
        if self.interval is not None:  # as vLLM begins (0.33.0)
            return np.tile(np.arange(physical) % task.experts, (task.layers, 1))
        weight = task.totals.astype(np.float64)
        return rebalance_experts(weight, physical, self.groups, self.nodes, task.gpus)

    def spare(self, experts: int, folders: Folders = ()) -> int:
        """As many as asked for."""
        return self.redundant


def rebalance_experts(weight: Floats, physical: int, groups: int, nodes: int, gpus: int) -> Ints:
    """The logical expert int64[layers, physical] of every physical one, from ``weight`` [layers,
    experts].

    Where ``gpus`` do not divide ``physical``, the first GPUs hold one more.
    """
    whole = (weight.shape[1] % groups, groups % nodes, gpus % nodes, physical % gpus)
    if any(whole):
        groups = nodes = 1
    layers, experts = weight.shape
    ordered = _groups_to_nodes(weight, groups, nodes)
    of_nodes = np.take_along_axis(weight, ordered, axis=1).reshape(layers * nodes, -1)
    holds, replicas = replicated(of_nodes, physical // nodes)
    share = np.take_along_axis(of_nodes / replicas, holds, axis=1)
    room = room_of_gpus(physical // nodes, gpus // nodes)
    pack, rank = balanced_packing(share, room)
    place = (np.cumsum(room) - room)[pack] + rank
    packed = np.empty_like(holds)
    np.put_along_axis(packed, place, holds, axis=1)
    first = np.arange(0, experts, experts // nodes)[:, None]
    of_layers = packed.reshape(layers, nodes, -1) + first
    return np.take_along_axis(ordered, of_layers.reshape(layers, -1), axis=1)


def _groups_to_nodes(weight: Floats, groups: int, nodes: int) -> Ints:
    """The experts int64[layers, experts], those of the first node's groups first."""
    layers, experts = weight.shape
    size = experts // groups
    tokens = weight.reshape(layers, groups, size).sum(axis=2)
    node, rank = balanced_packing(tokens, np.full(nodes, groups // nodes))
    order = np.argsort(node * groups + rank, axis=1, kind="stable")
    members: Ints = order[:, :, None] * size + np.arange(size)
    return members.reshape(layers, experts)
