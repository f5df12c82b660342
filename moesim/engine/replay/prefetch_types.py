"""The types of what compiled prefetching reads and writes, and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from moesim.engine.replay.prefetch_arrays import (
    Activating,
    Asked,
    Beside,
    Decided,
    Patterns,
    Pools,
    Predicted,
    Queue,
)
from moesim.runtime.compiled import njit, types

Function = TypeVar("Function", bound=Callable[..., Any])
_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MASK = types.boolean[:, ::1]


def _of(kind: type, *members: Any) -> Any:
    uniform: Any = types.NamedUniTuple
    mixed: Any = types.NamedTuple
    if len(set(members)) == 1:
        return uniform(members[0], len(members), kind)
    return mixed(members, kind)


_BOOLS = types.boolean[::1]
POOLS = _of(
    Pools, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _MASK, _CUBE, types.float64[::1], _FLAT
)  # fmt: skip
QUEUE = _of(
    Queue, *[_TABLE] * 5, _MASK, types.int64[:, :, :, ::1], _TABLE
)  # fmt: skip
ASKED = _of(Asked, _FLAT, _TABLE, _FLAT, _FLAT, _FLAT, _TABLE, _FLAT, _FLAT, _FLAT)
PREDICTED = _of(Predicted, _CUBE, _FLAT, _TABLE, _FLAT, _MASK)
PATTERNS = _of(Patterns, *[_FLAT] * 7)
BESIDE = _of(Beside, _FLAT, _FLAT, _TABLE, _TABLE, _FLAT, _TABLE, _TABLE)
ACTIVATING = _of(
    Activating, *[_FLAT] * 3, _BOOLS, *[_FLAT] * 7, _BOOLS, _BOOLS, _BOOLS, _FLAT, _MASK
)  # fmt: skip
DECIDED = _of(Decided, *[_FLAT] * 7)


def in_place(signature: Any) -> Callable[[Function], Function]:
    """Compile a function that makes no array, without counting references to those that it is
    given: with so many that would take longer than the function.
    """
    compiler: Any = njit
    compile_it: Callable[[Function], Function] = compiler(signature, cache=True, _nrt=False)
    return compile_it
