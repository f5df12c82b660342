"""The rows between GPUs where a token goes once to each GPU that has experts of its, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.runtime.compiled import built_in, njit, types
from moesim.trace.routing import NO_EXPERT

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
_IDS = types.Array(types.uint16, 3, "C", readonly=True)


@built_in
def _send(there: Any, sender: int, node: int, sent: Any) -> None:
    """Add a token of ``sender`` that is wanted on the GPUs where it is ``there`` bool[gpus]. To
    another node of so many GPUs it goes once, to the GPU there that stands where the sender does on
    its own, and from that to the others.
    """
    for first in range(0, len(there), node):
        near = sender // node * node == first
        relay = sender if near else first + sender % node
        wanted = False
        for gpu in range(first, first + node):
            if there[gpu]:
                wanted = True
                sent[relay, gpu] += gpu != relay
                there[gpu] = False
        sent[sender, relay] += wanted and not near


@njit(
    types.void(
        _IDS, _FLAT, _FLAT, _FLAT, types.boolean[:, ::1], _TABLE, types.int64,
        types.int64[:, :, :, ::1],
    ),
    cache=True,
)  # fmt: skip
def send_once(
    ids: Any, rows: Any, senders: Any, offsets: Any, active: Any, gpu_of: Any, node: int, sent: Any
) -> None:
    """Add up rows between GPUs, ``sent`` int64[MoE layers, passes, gpus, gpus].

    Of the passes' tokens ``rows`` names the row of ``ids``, ``senders`` the GPU; ``offsets``
    int64[passes + 1]; ``active`` bool[passes, MoE layers]; ``gpu_of`` int64[MoE layers, numbers of
    ``ids``]; ``node``: how many GPUs a node has.
    """
    there = np.zeros(sent.shape[2], np.bool_)
    for layer in range(sent.shape[0]):
        for step in range(len(offsets) - 1):
            low, high = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
            for token in range(low, high if active[step, layer] else low):
                for k in range(ids.shape[2]):
                    expert = ids[rows[token], layer, k]
                    if expert != NO_EXPERT:
                        there[gpu_of[layer, expert]] = True
                _send(there, senders[token], node, sent[layer, step])
