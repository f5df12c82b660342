"""Rows of the MoE layers that memory has to hold, from the gating and the run's own counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.layer_work import BLOCK_ROWS
from moesim.engine.routing import Routing
from moesim.gating.base import Routed
from moesim.memory.live import LayerRows
from moesim.workload.schedule import AttentionSums


def rows_of_run(case: Case, tokens: Ints) -> LayerRows:
    """Of every pass of ``case``, with ``tokens`` int64[passes, gpus]."""
    return _counted(_Run.of(case, tokens)) if _depends(case) else _by_tokens(case, tokens)


def rows_alike(case: Case, tokens: Ints) -> LayerRows:
    """Of passes with ``tokens`` int64[passes, gpus] that are not in the run, as uneven as its
    fullest pass, where that decides them.
    """
    if not _depends(case):
        return _by_tokens(case, tokens)
    of_run = AttentionSums.of(case.schedule, case.trace, case.gpus, None).tokens
    fullest, run = int(of_run.sum(axis=1).argmax()), rows_of_run(case, of_run)
    one, of = run.of_pass(fullest), int(of_run[fullest].sum())
    return LayerRows.joined([one.times(more, of) for more in tokens.sum(axis=1).tolist()])


def _depends(case: Case) -> bool:
    """Whether rows depend on the counts."""
    apart = case.gpus > 1 or case.kernels in ("serial", "block_sparse")
    return case.gating.agrees or (case.gating.uneven and apart)


def _by_tokens(case: Case, tokens: Ints) -> LayerRows:
    """Where a pass's tokens say all."""
    top_k = case.trace.top_k
    if case.gating.uneven:
        rows = tokens * top_k
        return LayerRows(rows, rows, rows, np.zeros_like(rows), padded=False)
    nothing = np.zeros((len(tokens), 1, case.gpus, case.placement.physical), np.int64)
    return _held(case, tokens, case.gating.route(nothing, tokens, top_k))


@dataclass(frozen=True)
class _Run:
    """What the rows of a run depend on, by identity; the case keeps it alive."""

    key: tuple[Any, ...]
    case: Case = field(compare=False)
    tokens: Ints = field(compare=False)

    @classmethod
    def of(cls, case: Case, tokens: Ints) -> _Run:
        parts = (case.trace, case.schedule, case.placement, case.model)
        key = (*(id(part) for part in parts), case.gating, case.kernels)
        return cls(key, case, tokens)


@lru_cache(maxsize=2)
def _counted(run: _Run) -> LayerRows:
    """From the choices of the trace, piece by piece."""
    routing, parts = Routing(run.case), []
    for first, last in routing.pieces():
        tokens, counts = run.tokens[first:last], routing.counts(first, last)
        routed = run.case.gating.route(counts, tokens, run.case.trace.top_k)
        parts.append(_held(run.case, tokens, routed))
    return LayerRows.joined(parts)


def _held(case: Case, tokens: Ints, routed: Routed) -> LayerRows:
    """The most of any MoE layer of each pass."""
    local = [case.local_experts(gpu) for gpu in range(case.gpus)]
    received = np.stack([routed.rows[:, :, ids].sum(axis=2) for ids in local], axis=2)
    padded = routed.rows
    if case.kernels == "block_sparse":
        padded = -(-routed.rows // BLOCK_ROWS) * BLOCK_ROWS
    of_gpu = [padded[:, :, ids] for ids in local]
    together = case.kernels != "serial"
    inside = [rows.sum(axis=2) if together else rows.max(axis=2) for rows in of_gpu]
    room = routed.capacity.max(axis=1) * case.placement.physical * tokens.max(axis=1)
    masks = room if case.gating.masks else 0 * room
    return LayerRows(
        routed.sent.sum(axis=3).max(axis=1),
        received.max(axis=1),
        np.stack(inside, axis=2).max(axis=1),
        np.repeat(masks[:, None], case.gpus, axis=1),
        padded=not case.gating.uneven,
    )
