"""The rows that GPUs exchange, straight from expert ids, compiled.

Of the passes' tokens ``rows`` names the row of the trace, ``senders`` the GPU; ``offsets``
int64[passes + 1]; ``active`` bool[passes, MoE layers]; ``gpu_of_expert`` int64[MoE layers,
experts].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.pricing.prices import KEPT, number_of
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


@njit(
    types.void(
        _IDS, _FLAT, _FLAT, types.int64, types.int64, types.int64, _FLAT, types.int64, _FLAT
    ),
    cache=True,
)
def _exchange(
    ids: Any, rows: Any, senders: Any, low: int, high: int, layer: int, own: Any, gpus: int,
    exchange: Any,
) -> None:  # fmt: skip
    """Fill in the exchange of tokens low:high."""
    exchange[:] = 0
    for token in range(low, high):
        row, sender = rows[token], senders[token]
        for k in range(ids.shape[2]):
            expert = ids[row, layer, k]
            if expert != NO_EXPERT:
                exchange[sender * gpus + own[expert]] += 1


@njit(
    types.int64(
        _IDS, _FLAT, _FLAT, _FLAT, _MASK, _TABLE, types.int64, KEPT, types.int64, _TABLE
    ),
    cache=True,
)  # fmt: skip
def find_exchanges(
    ids: Any, rows: Any, senders: Any, offsets: Any, active: Any, gpu_of_expert: Any, gpus: int,
    kept: Any, begin: int, place: Any,
) -> int:  # fmt: skip
    """Fill in which exchange of rows from GPU to GPU each is, of those that are ``kept``: ``place``
    int64[MoE layers, passes], from element ``begin`` on. Returns how far there was room.
    """
    exchange, passes = np.zeros(gpus * gpus, np.int64), len(offsets) - 1
    for at in range(begin, place.size):
        layer, step = at // passes, at % passes
        low, high = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
        high = high if active[step, layer] else low
        own = gpu_of_expert[layer]
        _exchange(ids, rows, senders, low, high, layer, own, gpus, exchange)
        number = number_of(kept, exchange, at, 1)
        if number < 0:
            return at
        place[layer, step] = number
    return int(place.size)
