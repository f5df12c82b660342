"""Forms, and the tables of those that a way of handling misses has."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.memory.activations import ActiveExperts
from moesim.memory.forms import LOADED, ON_HOST, OVER_LINK, Form, flags_of
from moesim.memory.misses.base import MissHandling
from moesim.memory.misses.cpu import Cpu
from moesim.memory.policies.lru import Lru
from moesim.memory.slots.residency import LayerCache


@pytest.mark.parametrize(("runs_on", "source"), [("gpu", "none"), ("host", "link")])
def test_a_kernel_has_weights_and_nothing_else_has(runs_on: Any, source: Any) -> None:
    with pytest.raises(ValueError, match="form 'odd'"):
        Form("odd", runs_on, source)


def test_flags_are_by_number() -> None:
    flags = flags_of((LOADED, ON_HOST, OVER_LINK))
    assert flags.on_gpu.tolist() == [True, False, True]
    assert flags.on_host.tolist() == [False, True, False]
    assert flags.in_slot.tolist() == [True, False, False]
    assert flags.over_link.tolist() == [False, False, True]


@pytest.mark.parametrize("table", [(), (ON_HOST,), (LOADED, ON_HOST, ON_HOST)])
def test_a_table_begins_with_loads_and_names_no_form_twice(table: tuple[Form, ...]) -> None:
    with pytest.raises(InputError, match=r"Odd\.forms: is .*; write LOADED first"):

        class Odd(MissHandling):
            forms: ClassVar[tuple[Form, ...]] = table


def test_one_place_in_two_tables_decides_twice() -> None:
    """Number 1 is the host in one and a read over the link in the other."""

    class Other(Cpu):
        forms: ClassVar[tuple[Form, ...]] = (LOADED, OVER_LINK)

    launches = []
    for miss in (Cpu(), Other(), Cpu()):
        cache = LayerCache(
            Lru(), 1, np.zeros(2, np.int64), serial=False, resident_first=False, miss=miss
        )
        launches.append(
            cache.decide(ActiveExperts(np.array([0, 1]), np.array([1]))).launch.tolist()
        )
    assert launches == [[-1], [0], [-1]]
