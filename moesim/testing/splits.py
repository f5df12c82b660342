"""What every split of memory between experts and requests keeps (docs/serving.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.testing.schedulers import keeps_the_laws as scheduler_keeps
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.state import STEPS, Asked, Room, State
from moesim.workload.splits.base import Shared, Split, fault_of_units


def keeps_the_laws(
    split: Split, shared: Shared, scheduler: RequestScheduler, asked: Asked, room: Room
) -> State | None:
    """Every request is served, or rejected as too long, as ``testing.schedulers`` has it, with
    blocks that units have brought or taken; returns the state at the end.

    In no step experts have fewer slots than one or more than all, nor the pool fewer blocks than
    the split promises. A split that says that nothing moves has no exchange.
    """
    name = type(split).__name__
    exchange = split.exchange(shared)
    assert (exchange is not None) == split.moves, f"{name}: 'moves' is not what it does"
    state = scheduler_keeps(scheduler, asked, replace(room, exchange=exchange))
    if state is None or exchange is None:
        return state
    given = state.units[:, : state.numbers[STEPS]]
    assert (given < shared.slots).all(), f"{name}: experts without a slot"
    assert (shared.slots - given <= shared.most).all(), f"{name}: more slots than experts"
    fault = fault_of_units(state)
    assert not fault, f"{name} {fault}"
    changes = np.diff(given, axis=1, prepend=0)
    assert not split.reads_misses or (np.abs(changes) <= 1).all(), f"{name}: units at once"
    return state
