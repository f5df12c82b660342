"""Draws of numpy's PCG64, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.runtime.compiled import njit
from moesim.runtime.pcg64 import (
    UNIT,
    draw_all,
    draw_at,
    jumps_of,
    moved_by,
    moved_times,
    state_of,
    steps_of,
)

TIMES, BEFORE = 1_000_003, 7


@njit()
def _draw(state: Any, steps: Any, found: Any) -> None:
    """Fill in ``found`` [turns, draws], each turn from where the one before it ended."""
    jumps = jumps_of(state, steps)
    high, low = moved_times(state[0], state[1], jumps, BEFORE, TIMES)
    for turn in range(len(found)):
        for i in range(found.shape[1]):
            found[turn, i] = draw_at(high, low, jumps, i)
        high, low = moved_by(high, low, jumps, found.shape[1])


@njit()
def _draw_all(state: Any, steps: Any, barred: Any, found: Any) -> None:
    """The same, each turn at once."""
    jumps = jumps_of(state, steps)
    parts = np.ascontiguousarray(jumps[1:].T)
    high, low = moved_times(state[0], state[1], jumps, BEFORE, TIMES)
    for turn in range(len(found)):
        draw_all(high, low, parts, barred, found[turn])
        high, low = moved_by(high, low, jumps, found.shape[1])


def test_any_draw_is_numpys() -> None:
    generator = np.random.PCG64(np.random.SeedSequence([7, 11]))
    found = np.zeros((40, 33), np.int64)
    together, barred = np.zeros_like(found), np.zeros(33, np.int64)
    barred[5] = 1 << 60
    _draw(state_of(generator), steps_of(33), found)
    _draw_all(state_of(generator), steps_of(33), barred, together)
    assert (together == found | barred).all()
    generator.advance(TIMES * BEFORE)
    drawn = np.random.Generator(generator).random(found.shape)
    assert (found * UNIT == drawn).all()
