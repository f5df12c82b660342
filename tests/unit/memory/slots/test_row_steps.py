"""Steps whose experts have a row each, against those of ``LayerCache``, of more experts than a word
has bits.
"""

from __future__ import annotations

import numpy as np
import pytest

from moesim.memory.activations import ActiveExperts
from moesim.memory.policies import registry as policies
from moesim.memory.slots.residency import Given, LayerCache
from moesim.memory.slots.row_steps import WORD, RowPools, sweep_rows_of

PASSES, EXPERTS, TOP_K, ROOM, SLOTS = 60, 130, 5, 8, 24


@pytest.mark.parametrize(
    "kind", ["lfu", "fifo", "lfru", "lfu_decay", "least_stale", "random", "arc"]
)
def test_experts_in_several_words_are_those_of_a_cache(kind: str) -> None:
    rng = np.random.default_rng(0)
    ids = np.argsort(rng.gumbel(size=(PASSES, 1, EXPERTS)) - np.arange(EXPERTS) / 40)[..., :TOP_K]
    policy, draws = policies.get(kind)(), rng.random(PASSES * TOP_K)
    drawn = draws if policy.draws else np.empty(0)
    cache = LayerCache(
        policy, SLOTS, np.zeros(EXPERTS, np.int64), serial=False, resident_first=False,
        given=Given(draws=drawn, resident=np.arange(7), prefetched=False),
    )  # fmt: skip
    words = -(-EXPERTS // WORD)
    there = np.packbits(np.arange(words * WORD) < 7, bitorder="little").view(np.uint64)
    weights = np.zeros((0, 0, 0), np.uint16)
    ids = np.ascontiguousarray(ids, np.uint16)
    for one in (ids, weights):
        one.flags.writeable = False
    none, of_experts = np.zeros(0, np.int64), np.zeros((3, EXPERTS), np.int64)
    pools = RowPools(
        np.array([SLOTS]), there[None], cache.state[None].copy(), np.zeros(1, np.int64),
        drawn[None], weights, none, np.zeros(0, np.int32), np.zeros(words, np.uint64), *of_experts,
    )  # fmt: skip
    misses, home = np.zeros((PASSES, 1), np.uint16), np.arange(EXPERTS, dtype=np.uint16)[None]
    sweep = sweep_rows_of(type(policy), words, ROOM)
    sweep(ids, np.arange(PASSES), home, 0, pools, misses)
    offsets = np.arange(PASSES + 1) * TOP_K
    decided = cache.decide(ActiveExperts(offsets, np.sort(ids.astype(np.int64)).ravel()))
    assert misses[:, 0].tolist() == (~decided.hit).reshape(PASSES, TOP_K).sum(axis=1).tolist()
    assert (pools.state[0] == cache.state).all()
    assert 0 < misses.sum() < misses.size * TOP_K
