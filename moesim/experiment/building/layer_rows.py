"""Rows of the MoE layers that memory has to hold, from the gating and the run's own counts."""

from __future__ import annotations

from collections.abc import Hashable
from weakref import WeakKeyDictionary

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.layout import BLOCK_ROWS
from moesim.engine.routing import Routing
from moesim.gating.base import Routed, routed_by
from moesim.memory.footprint.live import LayerRows
from moesim.workload.schedule import Schedule


def rows_of_run(case: Case, tokens: Ints) -> LayerRows:
    """Of every pass of ``case``, with ``tokens`` int64[passes, gpus]."""
    return _counted(case, tokens) if _depends(case) else _by_tokens(case, tokens)


def rows_alike(case: Case, tokens: Ints) -> LayerRows:
    """Of passes with ``tokens`` int64[passes, gpus] that are not in the run, as uneven as its
    fullest pass, where that decides them.
    """
    if not _depends(case):
        return _by_tokens(case, tokens)
    of_run = case.schedule.tokens(case.gpus)
    fullest, run = int(of_run.sum(axis=1).argmax()), rows_of_run(case, of_run)
    one, of = run.of_pass(fullest), int(of_run[fullest].sum())
    return LayerRows.joined([one.times(more, of) for more in tokens.sum(axis=1).tolist()])


def _depends(case: Case) -> bool:
    """Whether rows depend on the counts."""
    apart = case.holders > 1 or case.kernels in ("serial", "block_sparse")
    return case.gating.agrees or (case.gating.uneven and apart)


def _by_tokens(case: Case, tokens: Ints) -> LayerRows:
    """Where a pass's tokens say all."""
    top_k = case.trace.top_k
    if case.gating.uneven:
        rows = np.repeat(case.of_senders(tokens), case.sharing, axis=1) * top_k
        moved = _gathered(case, tokens)
        nothing = np.zeros_like(rows)
        return LayerRows(moved, rows, rows, nothing, nothing, nothing, padded=False)
    nothing = np.zeros((len(tokens), 1, case.senders, case.placement.physical), np.int64)
    return _held(case, tokens, routed_by(case.gating, nothing, case.of_senders(tokens), top_k))


_kept: WeakKeyDictionary[Schedule, dict[Hashable, LayerRows]] = WeakKeyDictionary()
"""What was counted of a run, as long as its passes are there: slots and policies change nothing."""


def _counted(case: Case, tokens: Ints) -> LayerRows:
    """From the choices of the trace, piece by piece."""
    of_run = _kept.setdefault(case.schedule, {})
    key = (case.trace, case.placement, case.model, case.gating, case.kernels, case.sharing)
    if key not in of_run:
        routing, parts = Routing(case), []
        for first, last in routing.pieces():
            held, counts = tokens[first:last], routing.counts(first, last)
            routed = routed_by(case.gating, counts, case.of_senders(held), case.trace.top_k)
            parts.append(_held(case, held, routed))
        of_run[key] = LayerRows.joined(parts)
    return of_run[key]


def _held(case: Case, tokens: Ints, routed: Routed) -> LayerRows:
    """The most of any MoE layer of each pass."""
    of_gpu = [_those(routed.rows, case.local_experts(gpu)) for gpu in range(case.gpus)]
    sums = inside = [rows.sum(axis=2) for rows in of_gpu]
    if case.kernels == "block_sparse":
        inside = [(-(-rows // BLOCK_ROWS) * BLOCK_ROWS).sum(axis=2) for rows in of_gpu]
    if case.kernels == "serial":
        inside = [rows.max(axis=2) for rows in of_gpu]
    received = np.stack(sums, axis=2)
    fullest = case.of_senders(tokens).max(axis=1)
    choices, capacity = fullest * case.trace.top_k, routed.capacity.max(axis=1)
    of_gate = {
        "masks": fullest * case.placement.physical * capacity * case.gating.masks,
        "positions": choices * case.placement.physical * (not case.gating.uneven),
        "places": choices * capacity * case.gating.masks,
    }
    rows = received.max(axis=1)
    apart = case.senders > 1
    moved = routed.sent.sum(axis=3).max(axis=1) + rows if apart else _gathered(case, tokens)
    return LayerRows(
        moved,
        rows,
        np.stack(inside, axis=2).max(axis=1),
        **{name: np.repeat(one[:, None], case.gpus, axis=1) for name, one in of_gate.items()},
        padded=not (case.gating.uneven or apart),
    )


def _those(rows: Ints, experts: Ints) -> Ints:
    """Rows [passes, MoE layers, experts] of these ``experts``, ascending; those of all are not
    copied.
    """
    return rows if len(experts) == rows.shape[2] else rows.take(experts, axis=2)


def _gathered(case: Case, tokens: Ints) -> Ints:
    """Hidden vectors int64[passes, gpus] that come to every GPU where each has all in front of the
    experts, and none before.
    """
    if not case.gathers_tokens:
        return np.zeros_like(tokens)
    return np.repeat(case.of_senders(tokens), case.sharing, axis=1)
