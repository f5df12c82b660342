"""Experts on groups of a near-memory device's units."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

Spans = tuple[int, ...]
"""From when to when, and again from when to when."""
PartOf = tuple[int, int, int, int]
"""Of an expert the group, and its parts: broadcast, what the group takes alone, and gather."""


def on_groups(experts: Sequence[PartOf], since: int) -> list[Spans]:
    """From when to when rows of each of ``experts``, which are in execution order, go to its group,
    and come back: over one link, in the order in which it is asked for, of equals those of the
    expert that comes first.
    """
    waiting: dict[int, list[int]] = {}
    for number in reversed(range(len(experts))):
        waiting.setdefault(experts[number][0], []).append(number)
    asked = [(since, queue.pop()) for queue in waiting.values()]
    heapify(asked)
    moved, free = list[Spans]([()] * len(experts)), since
    while asked:
        at, number = heappop(asked)
        group, broadcast, alone, gather = experts[number]
        start, back = max(at, free), bool(moved[number])
        free = start + (gather if back else broadcast)
        moved[number] += (start, free)
        if not back:
            heappush(asked, (free + alone, number))
        elif waiting[group]:
            heappush(asked, (free, waiting[group].pop()))
    return moved
