"""What numba makes of functions is right where steps of its compiler are left out or put off."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba.core import untyped_passes
from numba.core.compiler import Flags
from numba.core.runtime import nrt

from moesim.runtime.compiled import njit, types

CONFIG: Any = numba.config
MEMORY: Any = nrt
pytestmark = pytest.mark.skipif(CONFIG.DISABLE_JIT, reason="nothing is compiled")


def with_closure(number):
    def more(one):
        return one + number

    return more(1) + more(2)


def with_list(number):
    return sum([one * number for one in range(4)])


def plain(number):
    return number + 1


@pytest.mark.parametrize("function", [with_closure, with_list])
def test_closures_are_built_in(function):
    compiled = njit(types.int64(types.int64), at_once=True)(function)
    assert compiled(5) == function(5)


def test_they_are_looked_for_where_there_may_be_some(monkeypatch):
    looked = []
    builds_in = untyped_passes.InlineClosureLikes.run_pass

    def look(self, state):
        looked.append(state.func_id.func_name)
        return builds_in(self, state)

    monkeypatch.setattr(untyped_passes.InlineClosureLikes, "run_pass", look)
    for function in (plain, with_closure):
        njit(types.int64(types.int64), at_once=True)(function)
    assert set(looked) == {"with_closure"}


def arrays_made(number):
    total, last = 0.0, np.zeros(1)
    for one in range(number):
        made = np.ones(1 + one)
        if one % 3 == 0:
            continue
        for each in made:
            total += each
        last = made
    return total + last.sum()


def test_arrays_end_where_nothing_needs_them_any_more():
    compiled = njit(types.float64(types.int64), at_once=True)(arrays_made)
    MEMORY._nrt.memsys_enable_stats()
    try:
        before = MEMORY.rtsys.get_allocation_stats()
        assert compiled(20) == arrays_made(20)
        after = MEMORY.rtsys.get_allocation_stats()
    finally:
        MEMORY._nrt.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


def test_options_are_the_same_where_they_stand_for_the_same():
    """As set or as left: numba compares what each stands for."""
    options: Any = Flags
    one, other = options(), options()
    assert one == other
    other.nrt = options.options["nrt"].default  # set to what it is anyway
    assert one == other
    assert hash(one) == hash(other)
    other.nrt = not other.nrt
    assert one != other
    assert other == other.copy()
    assert (one == "none") is False
