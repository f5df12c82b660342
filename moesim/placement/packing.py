"""Packing by weight into packs of equal size (DeepSeek's EPLB, ``eplb.py``)."""

from __future__ import annotations

import numpy as np

from moesim.placement.mapping import Ints
from moesim.placement.task import Floats


def balanced_packing(weight: Floats, room: Ints) -> tuple[Ints, Ints]:
    """Pack int64[layers, items] of each item, and its rank in it: items of [layers, items] by
    falling weight, each to the lightest pack that has ``room`` int64[packs] left, of equals the
    first.
    """
    layers, items = weight.shape
    pack, rank = np.zeros((2, layers, items), np.int64)
    if (room == 1).all():
        pack[:] = np.arange(items)
        return pack, rank
    order = np.argsort(-weight, axis=1, kind="stable")
    loads, held = np.zeros((layers, len(room))), np.zeros((layers, len(room)), np.int64)
    every = np.arange(layers)
    for item in order.T:
        chosen = np.where(held < room, loads, np.inf).argmin(axis=1)
        pack[every, item], rank[every, item] = chosen, held[every, chosen]
        loads[every, chosen] += weight[every, item]
        held[every, chosen] += 1
    return pack, rank


def replicated(weight: Floats, physical: int) -> tuple[Ints, Ints]:
    """The item int64[layers, physical] that each physical one holds, and replicas int64[layers,
    items]: one more, again and again, of the item whose replicas have the largest share.
    """
    layers, items = weight.shape
    holds = np.tile(np.arange(physical), (layers, 1))
    replicas = np.ones((layers, items), np.int64)
    every = np.arange(layers)
    for place in range(items, physical):
        hottest = (weight / replicas).argmax(axis=1)
        holds[:, place] = hottest
        replicas[every, hottest] += 1
    return holds, replicas
