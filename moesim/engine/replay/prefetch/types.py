"""The types of what compiled prefetching reads and writes, and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from moesim.engine.replay.callback import ASK, DRAW
from moesim.engine.replay.clock.paced import Pace
from moesim.engine.replay.prefetch.arrays import (
    Activating,
    Asked,
    At,
    Beside,
    Decided,
    Patterns,
    Pools,
    Predicted,
    Queue,
    Stored,
    Undecided,
    Variants,
)
from moesim.memory.slots.open_slots import DECIDE_OPEN, DECIDING
from moesim.runtime.bare import Bare
from moesim.runtime.by_address import ByAddress
from moesim.runtime.compiled import njit, record, types

Function = TypeVar("Function", bound=Callable[..., Any])
_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MARKS, _MASK, _INT = types.boolean[::1], types.boolean[:, ::1], types.int64

POOLS = ByAddress(Pools, _FLAT, _FLAT)
QUEUE = ByAddress(
    Queue, *[_TABLE] * 5, _MASK, _TABLE, _CUBE, _INT, _TABLE, _FLAT, _FLAT, _TABLE, _TABLE
)  # fmt: skip
_SHORTS, _HALVES = types.int16[::1], types.int32[::1]
_OFFSETS = types.int32[:, ::1]
ASKED = ByAddress(Asked, _FLAT, _OFFSETS, _SHORTS, _HALVES, _HALVES, _FLAT, _FLAT)
PREDICTED = ByAddress(Predicted, _CUBE, _FLAT, _OFFSETS, _SHORTS, _MASK)
PATTERNS = ByAddress(Patterns, _FLAT, _TABLE, *[_FLAT] * 6)
BESIDE = ByAddress(Beside, _FLAT, *[_TABLE] * 7, _FLAT)
ACTIVATING = ByAddress(Activating, *[_FLAT] * 3, _MARKS, _MARKS, _MASK, _FLAT, _FLAT, _TABLE)
DECIDED = ByAddress(Decided, *[_FLAT] * 11)
DECIDE = types.FunctionType(DECIDE_OPEN)
STORED = ByAddress(Stored, DECIDE, DECIDING, *[_TABLE] * 4, _MASK, _FLAT, _FLAT)
VARIANTS = ByAddress(
    Variants, _INT, _FLAT, _MARKS, _TABLE, types.int8[:, :, :, ::1]
)  # fmt: skip
PACED = ByAddress(Pace, *[_FLAT] * len(Pace._fields))
AT = record(At, *[_INT] * len(At._fields))
UNDECIDED = ByAddress(
    Undecided,
    types.FunctionType(ASK), types.FunctionType(DRAW), types.FunctionType(ASK), _MARKS,
    _FLAT, DECIDING, POOLS, QUEUE, ASKED, PREDICTED, PATTERNS, BESIDE, ACTIVATING, DECIDED,
    STORED, VARIANTS, _FLAT,
    _INT, types.int64[:, :, :, ::1], _CUBE, PACED, _INT, _INT,
)  # fmt: skip


COUNTS = Bare(_INT, 1)


def in_place(signature: Any, **options: Any) -> Callable[[Function], Function]:
    """Compile a function that makes no array, and need not count references to those that it is
    given.
    """
    compiler: Any = njit
    compile_it: Callable[[Function], Function] = compiler(signature, _nrt=False, **options)
    return compile_it


part = partial(in_place, inner=True, vectors=False)
"""``in_place`` for what is called from several places of compiled code: it is there once."""
