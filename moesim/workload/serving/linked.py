"""Lines of requests, and of blocks: doubly linked lists in arrays, several in one. Plain functions;
``stepping/loop.py`` compiles them.

``items`` has the neighbours of each member in its rows ``BEFORE`` and ``AFTER``, so that one is in
one line at a time. Line ``line`` of a rank is three rows of ``ranks``: how many are in it, the
first and the last.
"""

from __future__ import annotations

from typing import Any

from moesim.workload.serving.state import AFTER, BEFORE, NONE


def put_behind(items: Any, ranks: Any, line: int, rank: int, one: int, before: int) -> None:
    """``one`` stands behind ``before`` in the line of ``rank``, NONE: in front of all."""
    after = ranks[line + 1, rank] if before == NONE else items[AFTER, before]
    items[BEFORE, one], items[AFTER, one] = before, after
    if before == NONE:
        ranks[line + 1, rank] = one
    else:
        items[AFTER, before] = one
    if after == NONE:
        ranks[line + 2, rank] = one
    else:
        items[BEFORE, after] = one
    ranks[line, rank] += 1


def take_out(items: Any, ranks: Any, line: int, rank: int, one: int) -> None:
    """``one`` leaves the line of ``rank``, wherever it stands."""
    before, after = items[BEFORE, one], items[AFTER, one]
    if before == NONE:
        ranks[line + 1, rank] = after
    else:
        items[AFTER, before] = after
    if after == NONE:
        ranks[line + 2, rank] = before
    else:
        items[BEFORE, after] = before
    ranks[line, rank] -= 1
