"""What looks at all experts of a pool, compiled apart from the clock: in vectors."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.prefetch.types import in_place
from moesim.runtime.compiled import types

_BOOLS, _FLAT, _INT = types.boolean[::1], types.int64[::1], types.int64


@in_place(types.void(_FLAT, _INT))
def lift(pinned: Any, until: int) -> None:
    """Lift the pins of experts that are ``pinned`` up to ``until``."""
    for e in range(len(pinned)):
        pinned[e] = 0 if pinned[e] <= until else pinned[e]


@in_place(_INT(_BOOLS))
def count_in(resident: Any) -> int:
    """How many experts are ``resident``."""
    count = 0
    for e in range(len(resident)):
        count += resident[e]
    return count


@in_place(_INT(_BOOLS, _FLAT, _BOOLS))
def find_free(resident: Any, pinned: Any, candidates: Any) -> int:
    """Fill in the ``candidates``: residents without a pin; returns how many."""
    count = 0
    for e in range(len(candidates)):
        candidates[e] = resident[e] & (pinned[e] == 0)
        count += candidates[e]
    return count


@in_place(_INT(_BOOLS, _FLAT, _INT, _BOOLS))
def leave_out(needed: Any, serves: Any, own: int, candidates: Any) -> int:
    """Leave those out of the ``candidates`` that are ``needed`` of variant ``own``, by which
    variant ``serves`` each; returns how many are left.
    """
    count = 0
    for e in range(len(candidates)):
        candidates[e] = candidates[e] & ((not needed[e]) | (serves[e] != own))
        count += candidates[e]
    return count
