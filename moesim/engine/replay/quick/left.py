"""Passes of a row each on one GPU whose misses are left out: as none is ever loaded, who is
in slots stays as it is, and what is missed follows from a table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.fates import Fates, Ledger, tells_fates
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.quick.activations import ACTIVATED, COUNTED_HERE, HITS
from moesim.engine.replay.quick.handled import FewerRows, is_handled
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.one_row import in_slots_at_first
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.sweeps import Swept
from moesim.engine.replay.spans import IDS
from moesim.engine.routing import unit_of
from moesim.runtime.compiled import built_in, record, specialised, types
from moesim.trace.routing import NO_EXPERT

MISSED, LOST, WEIGHT, SKIPPED_ROWS = range(len(COUNTED_HERE) + 1, len(COUNTED_HERE) + 5)
"""Where is counted what is left out, its gate weight, that of all, and rows that nothing computes;
before them what is loaded, which nothing is.
"""


class Left(NamedTuple):
    """What is filled in, as of ``Swept``: how many experts each layer ``misses``, as numbered by a
    ``Rule``, how many ``times``, and the ``counts``; and added to, as of a ``Ledger``, what became
    of choices ``by_layer`` and ``by_request``. ``gone`` uint8[MoE layers, experts + 1]: who is in
    no slot, 1, and behind all 0. Room for a row's ``weights`` int64[MoE layers x k].
    """

    misses: Any
    times: Any
    counts: Any
    by_layer: Any
    by_request: Any
    gone: Any
    weights: Any


_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_LEFT = record(
    Left, types.uint16[:, ::1], _TABLE, types.int64[:, :, :, ::1], _CUBE, _CUBE,
    types.uint8[:, ::1], _FLAT,
)  # fmt: skip
_LEAVE = types.void(IDS, IDS, _FLAT, _FLAT, _LEFT)


@built_in
def _weigh(ids: Any, bits: Any, row: int, weights: Any) -> None:
    """Fill in the ``weights`` of a row's choices, where they have some."""
    own, weighs = ids[row].reshape(len(weights)), bits[row].reshape(len(weights))
    for i in range(len(weights)):
        weights[i] = unit_of(np.int64(weighs[i])) * (own[i] != NO_EXPERT)


@built_in
def _count(counts: Any, step: int, layer: int, most: int, found: Any) -> None:
    """Count what a layer of a step, or all of them, have ``found`` of the ``most`` there may be."""
    chosen, missed, weight, lost = found
    counts[ACTIVATED, step, layer, 0] -= most - chosen
    counts[HITS, step, layer, 0] -= most - chosen + missed
    counts[MISSED, step, layer, 0] = counts[SKIPPED_ROWS, step, layer, 0] = missed
    counts[WEIGHT, step, layer, 0], counts[LOST, step, layer, 0] = weight, lost


@built_in
def _tell(fates: Any, at: int, found: Any) -> None:
    """Add what is ``found`` to the sums of a layer, or of a request."""
    chosen, missed, weight, lost = found
    fates[0, at, 0] += chosen - missed
    fates[0, at, 1] += missed
    fates[1, at, 0] += weight - lost
    fates[1, at, 1] += lost


def leave_with(top_k: int) -> Callable[..., None]:
    """What passes of rows that choose ``top_k`` experts or fewer leave out. As that is known when
    it is compiled, loops over experts are none.
    """

    def leave(ids: Any, bits: Any, rows: Any, request: Any, out: Any) -> None:
        """Number and count passes that have one of the ``rows`` of ``ids`` each, and are of a
        ``request`` int64[passes]; ``bits`` of gate weights like ``ids``, or without rows.
        """
        layers, width = len(out.gone), out.gone.shape[1] - 1
        weights, apart = out.weights, out.counts.shape[2] > 1
        for step in range(len(rows)):
            row = rows[step]
            whole_number = whole_missed = whole_weight = whole_lost = np.int64(0)
            if len(bits) > 0:
                _weigh(ids, bits, row, weights)
            for layer in range(layers):
                number = missed = weight = lost = np.int64(0)
                for i in range(top_k):
                    expert, own = np.int64(ids[row, layer, i]), weights[layer * top_k + i]
                    misses = np.int64(out.gone[layer, min(expert, width)])
                    number, missed = number + (expert != NO_EXPERT), missed + misses
                    weight, lost = weight + own, lost + (own & -misses)
                place = (top_k - number) * (1 + top_k) + missed
                out.misses[step, layer] = place
                out.times[layer, place] += 1
                found = number, missed, weight, lost
                _tell(out.by_layer, layer, found)
                if apart:
                    _count(out.counts, step, layer, top_k, found)
                whole_number, whole_missed = whole_number + number, whole_missed + missed
                whole_weight, whole_lost = whole_weight + weight, whole_lost + lost
            found = whole_number, whole_missed, whole_weight, whole_lost
            _tell(out.by_request, request[step], found)
            if not apart:
                _count(out.counts, step, 0, layers * top_k, found)

    return leave


@lru_cache
def leave_of(top_k: int) -> Any:
    """``leave`` of such rows, compiled; kept on disk."""
    return specialised(leave_with, _LEAVE, constants=(top_k,), allocates=False)


def is_left(case: Case) -> bool:
    """Whether ``LeftRows`` takes ``case``, which has one row."""
    return case.skips and is_handled(case)


class LeftRows(FewerRows):
    """Makes the runs of a case that ``is_handled`` and whose misses are left out."""

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        case, choices = reuse.case, reuse.finder.layers * self.top_k
        self.counted += ("skipped_weight", "weight", "skipped_rows")
        self._ledger = Ledger(case, reuse.routing)
        self._bits = case.trace.expert_ids[:0]
        if case.trace.gate_weights is not None:
            self._bits = np.ascontiguousarray(case.trace.gate_weights).view(np.uint16)
        self._weights = np.zeros(choices, np.int64)

    def _as_they_are(self) -> NDArray[np.uint8]:
        """See ``OneRow``: who is in no slot, as the trace numbers them, and behind all 0."""
        reuse = self.reuse
        gone = ~(in_slots_at_first(reuse) | reuse.case.resident(0)[:, None])
        gone = np.take_along_axis(gone, reuse.finder.home, axis=1)
        return np.pad(gone, ((0, 0), (0, 1))).astype(np.uint8)

    def _sweep(self, first: int, ids: NDArray[np.uint16], rows: Ints, swept: Swept) -> None:
        """See ``OneRow``."""
        request = self._ledger.requests(first, first + len(rows))
        sums = self._ledger.by_layer, self._ledger.by_request
        out = Left(swept.misses, self.times, swept.counts, *sums, self._held, self._weights)
        leave_of(self.top_k)(ids, self._bits, rows, request, out)

    def _executed(self, counts: Ints) -> Ints:
        """See ``OneRow``."""
        executed: Ints = counts[ACTIVATED] - counts[SKIPPED_ROWS]
        return executed

    def fates(self) -> Fates | None:
        """As ``Maker`` says."""
        return self._ledger.total if tells_fates(self.reuse.case) else None
