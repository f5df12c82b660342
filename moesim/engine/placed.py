"""Which replica each choice of an expert goes to, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.placement.mapping import Placement
from moesim.runtime.compiled import njit, record, types
from moesim.trace.routing import NO_EXPERT


class Replicas(NamedTuple):
    """Where the replicas of experts are: ``homes`` int64[MoE layers, physical], expert by expert,
    those of each from ``begin`` int64[MoE layers, experts + 1] on.
    """

    homes: Any
    begin: Any

    @classmethod
    def of(cls, placement: Placement, places: Ints, experts: int) -> Replicas:
        """Those of ``experts`` by a ``placement``, whose physical experts are at ``places``."""
        order = np.argsort(placement.logical, axis=1, kind="stable")
        numbers = [np.bincount(one, minlength=experts) for one in placement.logical]
        begin = np.zeros((len(order), experts + 1), np.int64)
        np.cumsum(numbers, axis=1, out=begin[:, 1:])
        return cls(places[order], begin)


_IDS = types.Array(types.uint16, 3, "C", readonly=True)
_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
REPLICAS = record(Replicas, _TABLE, _TABLE)
_PLACED = types.uint16[:, :, ::1]


@njit(types.void(_IDS, _FLAT, _FLAT, _FLAT, REPLICAS, _TABLE, _PLACED), cache=True)
def _place(
    ids: Any, rows: Any, senders: Any, offsets: Any, replicas: Any, turns: Any, placed: Any
) -> None:
    """Fill in where choices are ``placed`` uint16[tokens, MoE layers, k]; ``turns`` int64[senders,
    experts] of zeros, and left so.
    """
    _, layers, top_k = ids.shape
    homes, begin = replicas.homes, replicas.begin
    for step in range(len(offsets) - 1):
        low, high = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
        for layer in range(layers):
            shared = False
            for token in range(low, high):
                row, sender = rows[token], senders[token]
                for k in range(top_k):
                    expert = ids[row, layer, k]
                    if expert == NO_EXPERT:
                        placed[token, layer, k] = NO_EXPERT
                        continue
                    place, number = begin[layer, expert], begin[layer, expert + 1]
                    number -= place
                    if number > 1:
                        place += (sender + turns[sender, expert]) % number
                        turns[sender, expert] += 1
                        shared = True
                    placed[token, layer, k] = homes[layer, place]
            for token in range(low, high if shared else low):
                for k in range(top_k):
                    expert = ids[rows[token], layer, k]
                    if expert != NO_EXPERT:
                        turns[senders[token], expert] = 0


def place_choices(
    ids: NDArray[np.uint16], rows: Ints, senders: Ints, offsets: Ints, replicas: Replicas
) -> NDArray[np.uint16]:
    """The homes of choices, uint16[tokens, MoE layers, k], of tokens of ``rows`` of the trace's
    ``ids``, of so many ``senders``, all int64[tokens]; ``offsets`` by pass.

    In a pass and layer the choices of an expert by a sender go to its replicas in turn, from the
    replica of the sender's number on: as ``Placement.spread`` counts them.
    """
    turns = np.zeros((int(senders.max(initial=0)) + 1, replicas.begin.shape[1] - 1), np.int64)
    placed = np.empty((len(rows), *ids.shape[1:]), np.uint16)
    _place(ids, rows, senders, offsets, replicas, turns, placed)
    return placed
