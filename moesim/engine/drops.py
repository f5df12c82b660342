"""Whose gate weight is lost where a capacity drops choices (docs/semantics.md)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Floats, Ints
from moesim.engine.routing import Routing
from moesim.gating.base import Drop, Routed
from moesim.memory.policy import WEIGHT_UNIT
from moesim.trace.routing import NO_EXPERT


def lost_weight(case: Case, routing: Routing, passes: tuple[int, int], routed: Routed) -> Ints:
    """Gate weight of the dropped choices and of all, int64[passes, MoE layers, 2] in units of
    1 / WEIGHT_UNIT; 0 where the trace has no weights or the gating drops nothing.
    """
    first, last = passes
    if case.trace.gate_weights is None or case.gating.drops is None:
        return np.zeros((*routed.dropped.shape, 2), np.int64)
    whole = np.where(routing.active(first, last), routing.weights(first, last).sum(axis=2), 0)
    lost = np.zeros_like(whole)
    if routed.dropped.any():
        lost = _Choices.of(case, passes, routed.dropped > 0).beyond(routed.capacity)
    return np.stack((lost, whole), axis=2)


@dataclass(frozen=True, eq=False)
class _Choices:
    """Choices int64[n] that may be dropped: ``cell`` (pass, layer, sender, expert) as one number,
    ``step`` (pass, layer) likewise, rank by rank, within that in the order of the tokens.
    """

    cell: Ints
    step: Ints
    weight: Ints
    keys: tuple[Ints | Floats, ...]

    @classmethod
    def of(cls, case: Case, passes: tuple[int, int], dropped: NDArray[np.bool_]) -> _Choices:
        """Those of passes and layers where some are ``dropped`` bool[passes, layers]."""
        schedule, trace, offsets = case.schedule, case.trace, case.schedule.offsets
        span = slice(offsets[passes[0]], offsets[passes[1]])
        ids = trace.expert_ids[schedule.rows[span]].astype(np.int64).transpose(2, 0, 1)
        assert trace.gate_weights is not None, "the trace has gate weights"
        exact = trace.gate_weights[schedule.rows[span]].astype(np.float64) * WEIGHT_UNIT
        weights = np.where(ids == NO_EXPERT, 0, exact.astype(np.int64).transpose(2, 0, 1))
        of_pass = np.repeat(np.arange(len(dropped)), np.diff(offsets[passes[0] : passes[1] + 1]))
        step = of_pass[:, None] * dropped.shape[1] + np.arange(dropped.shape[1])
        cell = (step * case.gpus + schedule.gpu[span][:, None]) * (NO_EXPERT + 1) + ids
        matters = (ids != NO_EXPERT) & dropped[of_pass]
        keys = _keys(case, passes, case.gating.drops, weights)
        steps = np.broadcast_to(step, ids.shape)[matters]
        return cls(cell[matters], steps, weights[matters], tuple(key[matters] for key in keys))

    def beyond(self, capacity: Ints) -> Ints:
        """The weight of all beyond ``capacity`` int64[passes, layers], int64[passes, layers]."""
        order = np.lexsort((*reversed(self.keys), self.cell))
        cell, step = self.cell[order], self.step[order]
        place = np.arange(len(cell)) - np.searchsorted(cell, cell, "left")
        lost = place >= capacity.ravel()[step]
        sums = np.bincount(step[lost], self.weight[order][lost], capacity.size)
        return sums.astype(np.int64).reshape(capacity.shape)


def _keys(
    case: Case, passes: tuple[int, int], drop: Drop | None, weights: Ints
) -> list[Ints | Floats]:
    """What orders the choices of an expert [k, tokens, layers] before rank and place."""
    rank = np.broadcast_to(np.arange(len(weights))[:, None, None], weights.shape)
    if drop == "highest_gate_first":
        return [-weights]
    if drop == "batch_prioritised":
        return [rank, np.broadcast_to(-weights.max(axis=0), weights.shape)]
    return [rank, _draws(case, passes)] if drop == "random" else []


def _draws(case: Case, passes: tuple[int, int]) -> Floats:
    """A uniform number for every choice [k, tokens, layers], from a stream of each pass."""
    offsets, shape = case.schedule.offsets, case.trace.expert_ids.shape[1:]
    stream = zlib.crc32(b"gating.drop")
    draws = [
        np.random.default_rng([case.seed, stream, number]).random(
            (int(offsets[number + 1] - offsets[number]), *shape)
        )
        for number in range(*passes)
    ]
    return np.concatenate(draws).transpose(2, 0, 1)
