"""Whose gate weight is lost where a capacity drops choices or experts are skipped
(docs/semantics.md).
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Floats, Ints
from moesim.engine.fates import NONE_DROPPED, Dropped
from moesim.engine.routing import Routing, add_weights, of_all
from moesim.gating.base import Drop, Routed
from moesim.memory.activations import steps_of
from moesim.memory.policy import WEIGHT_UNIT
from moesim.trace.routing import NO_EXPERT

NOT_COUNTED = np.zeros((0, 1, 1), np.int64)


class Lost(NamedTuple):
    """Gate weights in units of 1 / WEIGHT_UNIT: ``sums`` of the dropped choices and of all,
    int64[passes, MoE layers, 2]; of those that each physical expert ``kept``, int64[passes, MoE
    layers, experts], where some may be skipped, else without passes. 0 where the trace has no
    weights or nothing is ever lost. ``dropped`` as ``dropped_choices`` gives it.
    """

    sums: Ints
    kept: Ints = NOT_COUNTED
    dropped: Dropped = NONE_DROPPED


def gate_weights(case: Case, routing: Routing, passes: tuple[int, int], routed: Routed) -> Lost:
    """What the gating loses of passes, which it ``routed`` so."""
    loses = case.gating.drops is not None or case.skips
    if case.trace.gate_weights is None or not loses:
        return Lost(np.zeros((*routed.dropped.shape, 2), np.int64))
    weights, active = routing.weights(*passes), routing.active(*passes)
    if not active.all():
        weights = np.where(active[:, :, None], weights, 0)
    whole = weights
    if case.placement.has_replicas:
        whole = np.where(case.placement.number == 0, weights, 0)
    sums, left, kept = np.zeros((*routed.dropped.shape, 2), np.int64), weights, NOT_COUNTED
    whole.sum(axis=2, out=sums[:, :, 1])
    dropped = dropped_choices(case, passes, routed.dropped, routed.capacity)
    if len(dropped):
        lost = lost_weights(case, routing, passes, dropped)
        lost.sum(axis=2, out=sums[:, :, 0])
        left = weights - lost
    if case.skips and case.variants is not None and case.placement.has_replicas:
        kept = np.where(active[:, :, None], routing.numbered_weights(*passes), 0)
    elif case.skips:
        kept = _shared_out(case, left, of_all(routed.kept))
    return Lost(sums, kept, dropped)


def lost_weights(case: Case, routing: Routing, passes: tuple[int, int], dropped: Dropped) -> Ints:
    """The gate weight of the choices that are ``dropped``, by physical expert, int64[passes, MoE
    layers, experts].
    """
    ids, weights, of_pass = routing.chosen_weights(*passes)
    sums = np.zeros((passes[1] - passes[0], ids.shape[1], routing.logical), np.int64)
    add_weights(np.where(dropped, ids, np.uint16(NO_EXPERT)), weights, of_pass, sums)
    return case.placement.of_logical(sums)


def dropped_choices(case: Case, passes: tuple[int, int], dropped: Ints, capacity: Ints) -> Dropped:
    """Which choices are beyond ``capacity``, so many of them ``dropped``, int64[passes, MoE layers]
    both: bool[tokens, MoE layers, k], without tokens where none is.
    """
    if not dropped.any():
        return NONE_DROPPED
    cell, step, at, keys = _choices(case, passes, dropped > 0)
    order = np.lexsort((*reversed(keys), cell))
    cell, step = cell[order], step[order]
    place = np.arange(len(cell)) - np.searchsorted(cell, cell, "left")
    found, lost = np.zeros(at.shape, np.bool_), np.empty(len(cell), np.bool_)
    lost[order] = place >= capacity.ravel()[step]
    found[at] = lost
    return np.ascontiguousarray(found.transpose(1, 2, 0))


def _shared_out(case: Case, weights: Ints, rows: Ints) -> Ints:
    """``weights`` [passes, MoE layers, experts], whole for each replica, in proportion to the
    ``rows`` that it has of its expert's, rounded down.
    """
    if not case.placement.has_replicas:
        return weights
    logical = case.placement.logical
    cell = np.arange(rows.shape[0] * rows.shape[1]).reshape(*rows.shape[:2], 1)
    cell = cell * logical.shape[1] + logical
    of_expert = np.bincount(cell.ravel(), rows.ravel()).astype(np.int64)[cell]
    each, left = np.divmod(weights, np.maximum(of_expert, 1))  # no product beyond 64 bits
    shared: Ints = each * rows + left * rows // np.maximum(of_expert, 1)
    return shared


def _choices(
    case: Case, passes: tuple[int, int], dropped: NDArray[np.bool_]
) -> tuple[Ints, Ints, Dropped, list[Ints | Floats]]:
    """The choices int64[n] of passes and layers where some are ``dropped`` bool[passes, layers]:
    cell (pass, layer, sender, expert) as one number, step (pass, layer) likewise, which they are,
    bool[k, tokens, layers], and what orders them in a cell; rank by rank, within that in the order
    of the tokens.
    """
    schedule, trace, offsets = case.schedule, case.trace, case.schedule.offsets
    span = slice(offsets[passes[0]], offsets[passes[1]])
    ids = trace.expert_ids[schedule.routing_rows[span]].astype(np.int64).transpose(2, 0, 1)
    assert trace.gate_weights is not None, "the trace has gate weights"
    exact = trace.gate_weights[schedule.routing_rows[span]].astype(np.float64) * WEIGHT_UNIT
    weights = np.where(ids == NO_EXPERT, 0, exact.astype(np.int64).transpose(2, 0, 1))
    of_pass = steps_of(offsets[passes[0] : passes[1] + 1])
    step = of_pass[:, None] * dropped.shape[1] + np.arange(dropped.shape[1])
    sender = schedule.gpu[span] // case.sharing
    cell = (step * case.senders + sender[:, None]) * (NO_EXPERT + 1) + ids
    matters = (ids != NO_EXPERT) & dropped[of_pass]
    keys = [key[matters] for key in _keys(case, passes, case.gating.drops, weights)]
    return cell[matters], np.broadcast_to(step, ids.shape)[matters], matters, keys


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
