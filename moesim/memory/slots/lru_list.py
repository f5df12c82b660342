"""LRU of many experts as a list: what a use takes does not grow with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.runtime.compiled import built_in, record, types

GONE = np.iinfo(np.uint16).max


class LruList(NamedTuple):
    """Who is in the slots of a pool, in the order of their last use: neighbours uint16[nodes + 1],
    the one used before (``following``) and after (``before``), of whose ends the last node is both;
    a node by itself is its own. Nodes are experts, then empty slots, as if used before all. Who is
    ``gone`` uint16[experts or more]: GONE, else 0.
    """

    following: Any
    before: Any
    gone: Any


_NODES = types.uint16[::1]
LRU_LIST = record(LruList, _NODES, _NODES, _NODES)
NO_LIST = LruList(*np.zeros((3, 0), np.uint16))


def lru_list_of(gone: Any, slots: int, resident: Any) -> LruList:
    """The list of so many ``slots`` that hold the experts ``resident`` bool[experts], of which the
    lowest goes first; ``gone`` is filled in.
    """
    experts = len(resident)
    there = np.flatnonzero(resident)[::-1]
    gone[:] = GONE
    gone[there] = 0
    nodes = experts + slots - len(there)
    following, before = np.tile(np.arange(nodes + 1, dtype=np.uint16), (2, 1))
    order = np.concatenate(([nodes], there, np.arange(experts, nodes)))
    following[order], before[order] = np.roll(order, -1), np.roll(order, 1)
    return LruList(following, before, gone)


@built_in
def use(lru: Any, needed: Any, number: int) -> int:
    """Let a ``number`` of ``needed`` experts, ascending, at most as many as slots, be those used
    last, in this order; for those that are gone those go which were used before all others; returns
    which of the first 63 were gone, a bit each.
    """
    following, before, gone = lru.following, lru.before, lru.gone
    end, missed, mask = len(following) - 1, 0, 0
    for i in range(number):
        expert = needed[i]
        absent = gone[expert] & 1
        missed, mask = missed + absent, mask | absent << i
        gone[expert] = 0
        later, earlier = before[expert], following[expert]  # who is gone is both
        following[later], before[earlier] = earlier, later
    last = before[end]
    for _ in range(missed):
        out, last = last, before[last]
        following[out] = before[out] = out
        if out < len(gone):
            gone[out] = GONE
    following[last], before[end] = end, last
    first = following[end]
    for i in range(number):
        expert = needed[i]
        following[expert], before[first] = first, expert
        first = expert
    following[end], before[first] = first, end
    return mask
