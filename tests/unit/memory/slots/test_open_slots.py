"""Experts enter and leave slots between steps, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.memory.policies.lru import Lru
from moesim.memory.policies.random import Random
from moesim.memory.policy import INSERTED, LAST_USE, PINNED, CachePolicy
from moesim.memory.slots.decisions import CLOSED
from moesim.memory.slots.open_slots import (
    SLOTS,
    Slots,
    candidates_in,
    lowest_in,
    occupy,
    opened,
    pin,
    vacate,
)
from moesim.memory.slots.residency import Given, LayerCache
from moesim.runtime.by_address import placed
from moesim.runtime.compiled import code_of

USED = {1: 7, 3: 5, 4: 9}
"""When the experts that are resident at first were used last: 3 goes first, then 1."""


def slots_of(policy: CachePolicy) -> Slots:
    given = Given(resident=np.array([*USED]))
    cache = LayerCache(
        policy, 4, np.zeros(6, np.int64), serial=False, resident_first=False, given=given
    )  # fmt: skip
    cache.state[LAST_USE, [*USED]] = [*USED.values()]
    return opened(type(policy), [cache])


def lowest(slots: Slots) -> int:
    return int(code_of(lowest_in)(placed(slots, SLOTS), 0))


def test_slots_are_opened_as_the_cache_is():
    slots = slots_of(Lru())
    assert slots.used.tolist() == [3]
    assert slots.slot_of.tolist() == [[-1, 0, -1, 1, 2, -1]]
    assert slots.ranks[0, :4].tolist() == [7, 5, 9, CLOSED]
    assert lowest(slots) == 3


def test_what_is_pinned_stays():
    slots = slots_of(Lru())
    pin(slots, 0, 3, 12)
    assert slots.state[0, PINNED, 3] == 12
    assert lowest(slots) == 1
    for expert in (1, 4):
        pin(slots, 0, expert, 12)
    assert lowest(slots) == -1


def test_the_last_slot_takes_the_place_of_one_that_is_left():
    slots = slots_of(Lru())
    pin(slots, 0, 1, 12)
    vacate(slots, 0, 1)
    assert slots.slot_of.tolist() == [[-1, -1, -1, 1, 0, -1]]
    assert slots.ranks[0, :3].tolist() == [9, 5, CLOSED]
    assert (slots.used[0], slots.state[0, PINNED, 1], lowest(slots)) == (2, 0, 3)
    vacate(slots, 0, 3)
    vacate(slots, 0, 4)
    assert (slots.used[0], lowest(slots)) == (0, -1)


def test_one_takes_a_free_slot_or_that_of_a_victim_and_is_pinned():
    slots = slots_of(Lru())
    slots.now[0] = 11
    occupy(slots, 0, 0, -1, 12)
    assert (slots.used[0], slots.slot_of[0, 0], slots.state[0, INSERTED, 0]) == (4, 3, 11)
    occupy(slots, 0, 5, 3, 12)
    assert slots.slot_of.tolist() == [[3, 0, -1, -1, 2, 1]]
    assert slots.expert_at[0, :4].tolist() == [1, 5, 4, 0]
    assert lowest(slots) == 1


def test_experts_are_candidates_where_slots_are_not_ranked():
    slots = slots_of(Random())
    assert slots.ranks.shape == (1, 0)
    assert slots.idle.tolist() == [[False, True, False, True, True, False]]
    pin(slots, 0, 3, 12)
    occupy(slots, 0, 0, 4, 12)
    assert slots.idle.tolist() == [[False, True, False, False, False, False]]
    assert code_of(candidates_in)(placed(slots, SLOTS), 0) == 1
    vacate(slots, 0, 1)
    assert slots.idle.sum() == 0


@pytest.mark.parametrize("policy", [Lru(), Random()])
def test_pools_are_padded_to_the_widest(policy):
    caches = [
        LayerCache(policy, slots, np.zeros(experts, np.int64), serial=False, resident_first=False)
        for slots, experts in ((2, 3), (1, 5))
    ]
    slots = opened(type(policy), caches)
    assert slots.slot_of.shape == (2, 5)
    assert (slots.slot_of == -1).all()
