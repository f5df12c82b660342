"""What planners minimise: the largest share of a batch's choices that one GPU has."""

from __future__ import annotations

import numpy as np

from moesim.placement.mapping import Ints
from moesim.placement.task import Floats, Task

Bound = float | None
"""A lower bound; None where there was no batch to plan from."""

Score = tuple[float, float]
"""The largest share of a GPU in any batch, and the mean over batches of the largest."""


def gpu_shares(shares: Floats, gpu_of_expert: Ints, gpus: int) -> Floats:
    """[batches, gpus] from ``shares`` [batches, experts] of experts without replicas."""
    held = (gpu_of_expert[:, None] == np.arange(gpus)).astype(np.float64)
    of_gpus: Floats = shares @ held
    return of_gpus


def score(shares: Floats, gpu_of_expert: Ints, gpus: int) -> Score:
    """How even one layer is; (0, 0) without batches."""
    if not len(shares):
        return 0.0, 0.0
    largest = gpu_shares(shares, gpu_of_expert, gpus).max(axis=1)
    return float(largest.max()), float(largest.mean())


def lower_bound(task: Task, physical: int) -> Bound:
    """What no plan with ``physical`` experts a layer goes below: ``layer_bound`` of the worst
    layer; with replicas an equal share.
    """
    if not task.counts.any():
        return None
    if physical > task.experts:
        return 1 / task.gpus
    return max(layer_bound(task.shares(layer), task.room) for layer in range(task.layers))


def layer_bound(shares: Floats, room: Ints) -> float:
    """A bound for one layer from each batch alone.

    Some GPU has an equal share; one has the largest expert, beside as many of the smallest as it
    has to take; and of the D + 1 largest experts two are on one of the D GPUs.
    """
    if not len(shares):
        return 0.0
    rising, gpus, least = np.sort(shares, axis=1), len(room), int(room.min())
    bound = rising[:, -1] + rising[:, : least - 1].sum(axis=1)
    if shares.shape[1] > gpus:
        pair = rising[:, -gpus] + rising[:, -gpus - 1]
        bound = np.maximum(bound, pair + rising[:, : max(least - 2, 0)].sum(axis=1))
    return float(max(bound.max(), 1 / gpus))
