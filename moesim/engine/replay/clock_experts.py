"""The steps of docs/semantics.md's clock for the experts of one layer on one GPU, compiled: its
copies and waves, and what the host has to do with them.
"""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock_places import (
    BLOCKING,
    COPY_HOST,
    CPU,
    CURSOR,
    EXPERTS,
    HOST_COMBINE,
    HOST_TIME,
    HOST_WAVE,
    WEIGHTS,
)
from moesim.engine.replay.clock_steps import charge, inlined
from moesim.runtime.compiled import types

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]
_TUPLE: Any = types.UniTuple
_PAIR = _TUPLE(types.int64, 2)


@inlined(types.int64(types.boolean, types.int64, types.int64, types.int64, types.int64))
def copy_start(blocking: bool, to_copy: int, now: int, number: int, copied: int) -> int:
    """When copy ``number`` (from 1) of a layer known ``now`` starts, behind one that ends at
    ``copied``; a blocked host goes on to it only then.
    """
    if blocking:
        return max(now, copied) + to_copy
    return max(now + number * to_copy, copied)


@inlined(types.int64(types.int64, types.int64, _FLAT))
def after_victim(start: int, wait: int, wave_end: Any) -> int:
    """``start``, but not before the end of the wave that a copy has to ``wait`` for (-1: none)."""
    return int(max(start, wave_end[wait])) if wait >= 0 else start


@inlined(
    _PAIR(_TABLE, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64)
)
def play_wave(
    charged: Any, g: int, time: int, cursor: int, arrived: int, wave_ns: int, read_ns: int
) -> tuple[int, int]:
    """A wave from ``time`` on: the wait for copies that have ``arrived`` then (-1: for none), the
    kernel, and what it reads over the link; returns the new time and cursor.
    """
    if arrived >= 0:
        time = max(time, arrived)
        cursor = charge(charged, g, WEIGHTS, cursor, time)
    time += wave_ns
    cursor = charge(charged, g, EXPERTS, cursor, time)
    if read_ns > 0:
        time += read_ns
        cursor = charge(charged, g, WEIGHTS, cursor, time)
    return time, cursor


@inlined(
    types.void(
        _FLAT, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64,
        types.int64, types.int64, _FLAT, _TABLE, _TABLE,
    ))  # fmt: skip
def end_experts(
    fixed: Any, g: int, now: int, issues: int, copied: int, launched: int, hosted_ns: int,
    time: int, cursor: int, ready: Any, state: Any, charged: Any,
) -> None:  # fmt: skip
    """What the host does for a layer whose waves have ended at ``time``: from ``now`` on it
    ``issues`` copies, which have ended at ``copied``, launches kernels, and computes for
    ``hosted_ns`` from the end of dispatch, ``ready``, on. That becomes the end of the experts.
    """
    host = state[HOST_TIME, g]
    if issues > 0 and fixed[BLOCKING]:
        host = max(host, now, copied)
    elif issues > 0:
        host = max(host, now) + issues * fixed[COPY_HOST]
    state[HOST_TIME, g] = host + launched * fixed[HOST_WAVE] + fixed[HOST_COMBINE]
    if hosted_ns > 0:
        time = max(time, ready[g] + hosted_ns)
        cursor = charge(charged, g, CPU, cursor, time)
    ready[g], state[CURSOR, g] = time, cursor
