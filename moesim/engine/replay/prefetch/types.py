"""The types of what compiled prefetching reads and writes, and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from moesim.engine.replay.callback import ASK, DRAW
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
from moesim.memory.decisions import CELLS, DECIDE_IN
from moesim.memory.variant_cache import ROOM, SERVE, SERVING
from moesim.runtime.compiled import njit, record, types

Function = TypeVar("Function", bound=Callable[..., Any])
_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MASK = types.boolean[:, ::1]


_BOOLS = types.boolean[::1]
POOLS = record(
    Pools, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _MASK, _CUBE, types.float64[::1], _FLAT, _FLAT
)  # fmt: skip
QUEUE = record(
    Queue, *[_TABLE] * 5, _MASK, types.int64[:, :, :, :, ::1], _TABLE
)  # fmt: skip
ASKED = record(Asked, _FLAT, _TABLE, _FLAT, _FLAT, _FLAT, _TABLE, *[_FLAT] * 4)
PREDICTED = record(Predicted, _CUBE, _FLAT, _TABLE, _FLAT, _MASK)
PATTERNS = record(Patterns, *[_FLAT] * 7)
BESIDE = record(Beside, _FLAT, _FLAT, _TABLE, _TABLE, _FLAT, _TABLE, _TABLE)
ACTIVATING = record(
    Activating, *[_FLAT] * 3, _BOOLS, *[_FLAT] * 7, *[_BOOLS] * 3, _FLAT, _FLAT, _MASK, _FLAT, CELLS
)  # fmt: skip
DECIDED = record(Decided, *[_FLAT] * 11)
STORED = record(
    Stored, types.FunctionType(DECIDE_IN), _FLAT, _MASK, _CUBE, _FLAT, types.float64[::1], _FLAT,
    *[_TABLE] * 4, _MASK, *[_FLAT] * 3, _BOOLS, _TABLE, _FLAT, _FLAT, _TABLE, CELLS,
)  # fmt: skip
VARIANTS = record(
    Variants, types.FunctionType(SERVE), SERVING, _FLAT, _BOOLS, _TABLE, _FLAT, ROOM, _FLAT, _FLAT,
    types.int8[:, :, :, ::1],
)  # fmt: skip
AT = record(At, *[types.int64] * len(At._fields))
UNDECIDED = record(
    Undecided,
    types.FunctionType(ASK), types.FunctionType(DRAW),
    _FLAT, POOLS, QUEUE, ASKED, PREDICTED, PATTERNS, BESIDE, ACTIVATING, DECIDED,
    STORED, VARIANTS, _FLAT,
    types.int64, types.int64[:, :, :, ::1],
)  # fmt: skip


def in_place(signature: Any) -> Callable[[Function], Function]:
    """Compile a function that makes no array, without counting references to those that it is
    given: with so many that would take longer than the function.
    """
    compiler: Any = njit
    compile_it: Callable[[Function], Function] = compiler(signature, cache=True, _nrt=False)
    return compile_it
