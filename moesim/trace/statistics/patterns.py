"""How batches of requests use the experts: how many, how unevenly, how lastingly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace


@dataclass(frozen=True)
class ActivationPattern:
    """Means over batches and layers.

    ``active_share``: experts that a batch uses, over all; ``busiest_gpu_share``: of a batch's uses,
    those of the GPU with most, with neighbouring experts on one GPU; ``busiest_expert_share``:
    those of one expert; ``persistence``: share of a decode step's experts that the next step uses
    (None for other phases).
    """

    batches: int
    active_share: float
    busiest_gpu_share: float
    busiest_expert_share: float
    persistence: float | None


def activation_pattern(
    trace: RoutingTrace, phase: Phase, batch_size: int, gpus: int
) -> ActivationPattern:
    """The pattern of batches of ``batch_size`` successive requests in ``phase``.

    In decoding a batch is a step: the j-th token of each request, as long as all have one; in
    prefill and encoding all tokens of the requests. Layers that the phase does not run are left
    out. Raises InputError if there is no whole batch, or ``gpus`` does not divide the experts.
    """
    if trace.experts % gpus:
        raise InputError(f"{trace.experts} experts cannot be spread evenly over {gpus} GPUs")
    groups = list(_groups(trace, phase, batch_size))
    if not groups:
        raise InputError(f"the trace has no {batch_size} requests with {phase.name.lower()} tokens")
    counts = np.concatenate(groups)
    share = counts / counts.sum(axis=2, keepdims=True)
    of_gpus = share.reshape(*share.shape[:2], gpus, -1).sum(axis=3)
    return ActivationPattern(
        len(counts),
        float((counts > 0).mean()),
        float(of_gpus.max(axis=2).mean()),
        float(share.max(axis=2).mean()),
        _persistence(groups) if phase == Phase.DECODE else None,
    )


def _groups(trace: RoutingTrace, phase: Phase, size: int) -> Iterator[NDArray[np.int64]]:
    """[batches, layers, experts] uses of each group of requests."""
    rows = [
        part[trace.phase[part] == phase]
        for part in np.split(np.arange(trace.tokens), trace.request_offsets()[1:-1])
    ]
    rows = [part for part in rows if len(part)]
    used = (trace.expert_ids[trace.phase == phase] != NO_EXPERT).any(axis=(0, 2))
    for first in range(0, len(rows) - size + 1, size):
        group = rows[first : first + size]
        steps = [np.concatenate(group)]
        if phase == Phase.DECODE:
            steps = list(np.stack([part[: min(map(len, group))] for part in group], axis=1))
        yield np.stack([_uses(trace.expert_ids[step][:, used], trace.experts) for step in steps])


def _uses(ids: NDArray[np.uint16], experts: int) -> NDArray[np.int64]:
    """[layers, experts] of ids [tokens, layers, k]."""
    counts = [
        np.bincount(np.minimum(of_layer, experts).ravel(), minlength=experts + 1)
        for of_layer in np.swapaxes(ids, 0, 1)
    ]
    return np.stack(counts)[:, :experts]


def _persistence(groups: list[NDArray[np.int64]]) -> float | None:
    shares = [
        ((group[:-1] > 0) & (group[1:] > 0)).sum(axis=2) / (group[:-1] > 0).sum(axis=2)
        for group in groups
        if len(group) > 1
    ]
    return float(np.concatenate(shares).mean()) if shares else None
