"""The rows that GPUs exchange, straight from expert ids, compiled.

Of the passes' tokens ``rows`` names the row of the trace, ``senders`` the GPU; ``offsets``
int64[passes + 1]; ``active`` bool[passes, MoE layers]; ``gpu_of_expert`` int64[MoE layers,
experts].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
_IDS = types.Array(types.uint16, 3, "C", readonly=True)
_MASK = types.boolean[:, ::1]


@njit(types.void(_IDS, _FLAT, _FLAT, _FLAT, _MASK, _TABLE, types.int64, _TABLE), cache=True)
def busiest_rows(
    ids: Any, rows: Any, senders: Any, offsets: Any, active: Any, gpu_of_expert: Any, gpus: int,
    busiest: Any,
) -> None:  # fmt: skip
    """Fill in the most rows that one GPU sends to others, or gets from them: ``busiest``
    int64[MoE layers, passes].
    """
    _, layers, top_k = ids.shape
    sent, got = np.zeros(gpus, np.int64), np.zeros(gpus, np.int64)
    for layer in range(layers):
        own = gpu_of_expert[layer]
        for step in range(len(offsets) - 1):
            most = 0
            if active[step, layer]:
                sent[:] = 0
                got[:] = 0
                for token in range(offsets[step] - offsets[0], offsets[step + 1] - offsets[0]):
                    row, sender = rows[token], senders[token]
                    for k in range(top_k):
                        expert = ids[row, layer, k]
                        if expert == NO_EXPERT:
                            continue
                        receiver = own[expert]
                        crosses = receiver != sender
                        sent[sender] += crosses
                        got[receiver] += crosses
                        most = max(most, sent[sender], got[receiver])
            busiest[layer, step] = most


@njit(types.int64(_FLAT, types.int64, _FLAT, _FLAT, _TABLE), cache=True)
def _place_of(exchange: Any, total: int, kept: Any, sums: Any, exchanges: Any) -> int:
    """Where ``kept`` has the exchange, or room for it."""
    at = (total ^ (total >> 32)) & (len(kept) - 1)
    while kept[at] >= 0:
        known, same = kept[at], 0
        if sums[known] == total:
            while same < len(exchange) and exchanges[known, same] == exchange[same]:
                same += 1
        if same == len(exchange):
            break
        at = (at + 1) & (len(kept) - 1)
    return int(at)


@njit(
    types.int64(
        _IDS, _FLAT, _FLAT, types.int64, types.int64, types.int64, _FLAT, types.int64, _FLAT, _FLAT
    ),
    cache=True,
)
def _exchange(
    ids: Any, rows: Any, senders: Any, low: int, high: int, layer: int, own: Any, gpus: int,
    draws: Any, exchange: Any,
) -> int:  # fmt: skip
    """Fill in the exchange of tokens low:high; returns the sum of its ``draws``."""
    total = 0
    exchange[:] = 0
    for token in range(low, high):
        row, sender = rows[token], senders[token]
        for k in range(ids.shape[2]):
            expert = ids[row, layer, k]
            if expert != NO_EXPERT:
                cell = sender * gpus + own[expert]
                exchange[cell] += 1
                total += draws[cell]
    return int(total)


@njit(
    types.int64(_IDS, _FLAT, _FLAT, _FLAT, _MASK, _TABLE, types.int64, _FLAT, _TABLE, _TABLE),
    cache=True,
)
def different_exchanges(
    ids: Any, rows: Any, senders: Any, offsets: Any, active: Any, gpu_of_expert: Any, gpus: int,
    draws: Any, exchanges: Any, place: Any,
) -> int:  # fmt: skip
    """Fill in the exchanges that differ, with room for all: ``exchanges`` int64[n, gpus x gpus] of
    rows from GPU to GPU, and which of them each is: ``place`` int64[MoE layers, passes]. Returns
    how many differ. ``draws`` int64[gpus x gpus]: any numbers, whose sums tell most apart.
    """
    room = 1
    while room < 2 * len(exchanges):
        room *= 2
    kept, sums = np.full(room, -1, np.int64), np.empty(len(exchanges), np.int64)
    exchange, number = np.zeros(gpus * gpus, np.int64), 0
    for layer in range(len(gpu_of_expert)):
        own = gpu_of_expert[layer]
        for step in range(len(offsets) - 1):
            low, high = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
            high = high if active[step, layer] else low
            total = _exchange(ids, rows, senders, low, high, layer, own, gpus, draws, exchange)
            at = _place_of(exchange, total, kept, sums, exchanges)
            if kept[at] < 0:
                kept[at], sums[number] = number, total
                for cell in range(len(exchange)):  # as in activations.py, not as arrays
                    exchanges[number, cell] = exchange[cell]
                number += 1
            place[layer, step] = kept[at]
    return number
