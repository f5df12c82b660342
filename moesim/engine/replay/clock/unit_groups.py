"""Experts on groups of a near-memory device's units, which share one link; compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Ints
from moesim.engine.instants import NEVER
from moesim.runtime.compiled import inlined

GROUP, BROADCAST, ALONE, GATHER, ASKED = range(5)
"""Of each expert its group, the parts of its price, and when it asks for the link next."""


def room_for(experts: int) -> Ints:
    """Room for so many ``experts``."""
    return np.zeros((ASKED + 1, experts), np.int64)


@inlined
def _wait_for_groups(experts: Any, number: int) -> None:
    """The first of ``number`` of ``experts`` in each group asks for the link at once."""
    for i in range(number):
        experts[ASKED, i] = 0
        for j in range(i):
            if experts[GROUP, j] == experts[GROUP, i]:
                experts[ASKED, i] = NEVER


@inlined
def _next_in_group(experts: Any, number: int, done: int, now: int) -> None:
    """Behind the one that is ``done`` the next one of its group asks for the link."""
    experts[ASKED, done] = NEVER
    for i in range(done + 1, number):
        if experts[GROUP, i] == experts[GROUP, done]:
            experts[ASKED, i] = now
            break


@inlined
def all_gathered(experts: Any, number: int) -> int:
    """How long ``number`` of ``experts`` int64[5, most], in execution order, take on their groups;
    overwrites them.
    """
    free = 0
    _wait_for_groups(experts, number)
    for _ in range(2 * number):
        first = 0
        for i in range(1, number):
            if experts[ASKED, i] < experts[ASKED, first]:
                first = i
        free = max(free, experts[ASKED, first])
        if experts[ALONE, first] >= 0:
            free += experts[BROADCAST, first]
            experts[ASKED, first] = free + experts[ALONE, first]
            experts[ALONE, first] = -1
        else:
            free += experts[GATHER, first]
            _next_in_group(experts, number, first, free)
    return free
