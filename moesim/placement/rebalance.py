"""Experts that get other places during a run: when, from which loads, and what has to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from moesim.placement.mapping import Ints, Placement


class Rebalance(NamedTuple):
    """Before every ``interval``-th pass ``plan`` makes a new one, int64[MoE layers, physical], for
    so many GPUs, from the choices int64[MoE layers, experts] of the last ``window`` passes, unless
    they keep GPUs busier than ``least``, a share. ``one_by_one``: a layer a pass, beside it; else
    all at once, while GPUs wait, also for the plan, which takes ``planning_ns``.
    """

    interval: int
    window: int
    plan: Callable[[Ints, int], Ints]
    one_by_one: bool = False
    least: float = 1.0
    planning_ns: int = 0


def busy(placement: Placement, loads: Ints, least: float) -> bool:
    """Whether ``loads`` int64[MoE layers, experts] keep GPUs busier than ``least``: their mean rows
    over those of the GPU with most, each summed over layers.
    """
    rows = placement.spread(loads[None, :, None, :])[0, :, 0]
    of_gpus = np.stack([np.bincount(placement.gpu_of_expert, of_layer) for of_layer in rows])
    return int(rows.sum()) > least * (placement.gpus * int(of_gpus.max(axis=1).sum()))


def moved_experts(before: Placement, after: Placement, layer: int, per_node: int) -> Ints:
    """Experts int64[GPU from, GPU to] that GPUs hold ``after`` and did not ``before``, each from
    the GPU nearest to it that did: on its node (of ``per_node`` neighbours) if there is one, of
    several the first.
    """
    gpus, gpu = before.gpus, before.gpu_of_expert
    held = np.zeros((gpus, int(before.logical.max()) + 1), np.bool_)
    held[gpu, before.logical[layer]] = True
    moved = np.zeros((gpus, gpus), np.int64)
    comes = np.zeros_like(held)
    comes[gpu, after.logical[layer]] = True
    for to, expert in np.argwhere(comes & ~held).tolist():
        holders = np.flatnonzero(held[:, expert])
        near = holders[holders // per_node == to // per_node]
        moved[(near if len(near) else holders)[0], to] += 1
    return moved


def with_layer(before: Placement, after: Placement, layer: int) -> Placement:
    """``before``, but for ``layer``, which is as ``after``."""
    logical = before.logical.copy()
    logical[layer] = after.logical[layer]
    return Placement(logical, before.gpus)
