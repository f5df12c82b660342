"""Every registered split, on requests that hypothesis makes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moesim.testing.splits import keeps_the_laws
from moesim.workload.serving.sglang import Sglang
from moesim.workload.serving.trtllm import Trtllm
from moesim.workload.serving.vllm import Vllm
from moesim.workload.splits import registry
from moesim.workload.splits.base import Shared
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
