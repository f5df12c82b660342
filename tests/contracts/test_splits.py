"""Every registered split, on requests that hypothesis makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.testing.splits import keeps_the_laws
from moesim.workload.serving.sglang import Sglang
from moesim.workload.serving.state import Asked, Room
from moesim.workload.serving.trtllm import Trtllm
from moesim.workload.serving.vllm import Vllm
from moesim.workload.splits import registry
from moesim.workload.splits.base import Shared
from moesim.workload.splits.kv_first import KvFirst
from tests.reference.serving_cases import DRAWN, asked_of, room_of

SCHEDULERS = [
    Vllm(max_num_seqs=3),
    Sglang(max_num_seqs=3),
    Trtllm(max_num_seqs=3, capacity_scheduler_policy="max_utilization"),
]


@given(
    case=DRAWN,
    scheduler=st.sampled_from(SCHEDULERS),
    unit=st.integers(1, 4),
    slots=st.integers(1, 4),
    more=st.integers(0, 3),
)
def test_contract(case, scheduler, unit, slots, more):
    room = room_of(case)
    blocks = room.blocks or 20
    room = replace(room, blocks=blocks)
    shared = Shared(unit, slots, slots + more, 2, blocks, blocks, 0, 3, 2, 5)
    for split in registry.components.values():
        keeps_the_laws(split(), shared, scheduler, asked_of(case), room)


class Idle(KvFirst):
    """Says that nothing moves, and has an exchange."""

    moves: ClassVar[bool] = False

    def exchange(self, shared: Shared) -> Any:
        return KvFirst().exchange(shared)


class Generous(KvFirst):
    """Gives the last slot of experts too."""

    def exchange(self, shared: Shared) -> Any:
        return super().exchange(shared._replace(slots=shared.slots + 1))


@pytest.mark.parametrize(
    ("split", "said"),
    [(Idle, "Idle: 'moves' is not what it does"), (Generous, "Generous: experts without a slot")],
)
def test_one_that_breaks_the_rules_is_named(split, said):
    two, none = np.full(2, 2), np.zeros(2, np.int64)
    asked, room = Asked(2 * two, 3 * two, none, none, none - 1, none), Room(blocks=5, block_size=2)
    with pytest.raises(AssertionError, match=said):
        keeps_the_laws(split(), Shared(5, 1, 1, 1, 5, 5, 0, 1, 1, 1), SCHEDULERS[0], asked, room)
