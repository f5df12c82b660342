"""The misses of a step in a layer, divided between copies and the host; compiled."""

from __future__ import annotations

from typing import Any

from moesim.runtime.compiled import inlined

COPY, _, HOST, ROWS = range(4)
"""What is known of each active expert where misses compare: its copy's, kernel's and host's price
(alone, with its start and its rows' copies), and its rows."""
OFFERED = 4
DOWN, UP = range(2)
"""What is known of rows of the host: their copy down, with its start, and up."""


@inlined
def _least_makespan(places: Any, number: int, prices: Any, moved: Any) -> int:
    """How many of the first of a ``number`` of ``places`` are loaded, so that the later end of
    copies and host, and then of its rows up, is soonest; of equals the fewest.
    """
    copied = rows = computed = best = 0
    for i in range(number):
        place = places[i]
        own = prices[ROWS, place]
        rows += own
        computed += prices[HOST, place] - moved[DOWN, own] - moved[UP, own]
    least = computed + moved[DOWN, rows] + moved[UP, rows]
    for i in range(number):
        own = prices[ROWS, places[i]]
        rows -= own
        computed -= prices[HOST, places[i]] - moved[DOWN, own] - moved[UP, own]
        copied += prices[COPY, places[i]]
        longest = copied
        if i + 1 < number:
            longest = max(copied, computed + moved[DOWN, rows]) + moved[UP, rows]
        if longest < least:
            least, best = longest, i + 1
    return int(best)


@inlined
def add_miss(places: Any, number: int, place: int, prices: Any) -> int:
    """Put a miss at ``place`` behind those of a ``number`` of ``places`` that have as many rows or
    more; returns how many there are then. In place: to sort afterwards takes three times as long.
    """
    at, rows = number, prices[ROWS, place]
    while at > 0 and prices[ROWS, places[at - 1]] < rows:
        places[at] = places[at - 1]
        at -= 1
    places[at] = place
    return number + 1


@inlined
def divide(places: Any, number: int, prices: Any, moved: Any, loads_of: Any, planned: Any) -> None:
    """Set ``planned`` int64[active experts], 1 so far, to 0 for the misses of a step, a ``number``
    of ``places`` as ``add_miss`` has them, that the host computes.

    By falling rows, of equals the lowest first, as many are loaded as ``loads_of`` says, or where
    it is empty the least makespan, by ``prices`` int64[OFFERED, active experts] and ``moved``
    int64[2, rows + 1], the host's start with the copy of so many rows down, and theirs up. What the
    plan does not know of (an expert that loses its slot to another) is loaded.
    """
    if number == 0:
        return
    if len(loads_of) > 0:
        loads = loads_of[number]
    else:
        loads = _least_makespan(places, number, prices, moved)
    for i in range(loads, number):
        planned[places[i]] = 0
