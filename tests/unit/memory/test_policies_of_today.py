"""Victims worked out by hand, and pools over several layers."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.policies import registry
from moesim.memory.policies.gate_score import PARTS, SMALL, GateScore
from moesim.memory.policy import LAST_USE, ROWS, CachePolicy
from moesim.memory.slots.pools import Interleaved
from moesim.memory.slots.residency import LayerCache
from moesim.testing.audit import Setting
from moesim.testing.cache_policies import activations_of, misses_of
from moesim.testing.traces import active_experts_of


def policy(kind, **choices):
    return registry.get(kind)(**choices)


def victims(kind, order, slots, experts, **choices):
    """The victim of each activation where every step needs one expert."""
    activations = activations_of(
        policy(kind, **choices), [[e] for e in order], Setting(experts, slots)
    )
    return activations.victim.tolist()


def test_lfu_decay_forgets_an_old_favourite():
    order = [
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        2,
    ]  # halved after activations 3 and 7: 0 counts (4/2 + 2)/2 = 2
    assert victims("lfu_decay", order, 2, 3, half_life=4)[-1] == 1
    assert victims("lfu_decay", order, 2, 3, half_life=1)[-1] == 0  # nothing is left: the lowest id
    assert victims("lfu", order, 2, 3)[-1] == 1


@pytest.mark.parametrize(("frequency", "victim"), [("0 %", 0), ("100 %", 1), ("50 %", 1)])
def test_lfru_weighs_frequency_against_recency(frequency, victim):
    # At step 5: 0 used 4 times, last in step 3; 1 once, in step 4. Scores 4 + 3 and 1 + 4.
    assert victims("lfru", [0, 0, 0, 0, 1, 2], 2, 3, frequency=frequency)[-1] == victim


@pytest.mark.parametrize(
    ("weights", "victim"),
    [({"recency": "100 %"}, 0), ({"frequency": "100 %"}, 1), ({"high_use": "100 %"}, 1), ({}, 1)],
)
def test_hobbit_weighs_its_terms(weights, victim):
    # At step 3: 0 used twice, last in pass 2 of 4; 1 once, in pass 3. Sums 2 + 2 + 2 and 3 + 1 + 1.
    choices = dict.fromkeys(("recency", "frequency", "high_use", "distance"), "0 %")
    given = choices | weights if weights else {}
    assert victims("hobbit", [0, 0, 1, 2], 2, 3, **given)[-1] == victim


@pytest.mark.parametrize(("anew", "victim"), [(False, 1), (True, 0)])
def test_hobbit_forgets_what_the_request_before_used(anew, victim):
    uses = policy("hobbit", recency="0 %", frequency="100 %", high_use="0 %", distance="0 %")
    cache = LayerCache(uses, 2, np.zeros(3, np.int64), serial=False, resident_first=False)
    cache.decide(active_experts_of([[0], [0], [0], [1]]))
    if anew:
        cache.start_request()
    assert cache.decide(active_experts_of([[1], [2]])).victim.tolist() == [-1, victim]


def test_arc_keeps_what_came_back_from_a_scan():
    # 0 is used twice (T2); 1, 2, 3 pass through T1, where LRU would have evicted 0 at 2.
    assert victims("arc", [0, 0, 1, 2, 3], 2, 4) == [-1, -1, -1, 1, 2]
    assert victims("lru", [0, 0, 1, 2, 3], 2, 4) == [-1, -1, -1, 0, 1]


def test_arc_grows_t1_when_its_ghosts_come_back():
    # 1 is a ghost of T1 when it returns: p is 1, |T1| = 1 is not over it, so T2's 0 goes.
    assert victims("arc", [0, 0, 1, 2, 1], 2, 3) == [-1, -1, -1, 1, 0]


def test_s3fifo_lets_a_ghost_into_the_main_queue():
    # The small queue keeps 1 of 3 slots: 0 goes first, is a ghost, and comes back into the main
    # queue; then the small queue gives until it is below its size.
    assert victims("s3fifo", [0, 1, 2, 3, 0, 4, 5], 3, 6) == [-1, -1, -1, 0, 1, 2, 3]


def test_s3fifo_promotes_what_was_used_twice():
    # 0 is hit twice in the small queue: it moves to the main queue, and 1 goes instead.
    assert victims("s3fifo", [0, 0, 0, 1, 2], 2, 3) == [-1, -1, -1, -1, 1]


def test_s3fifo_numbers_stay_in_order_where_many_pass():
    rng = np.random.default_rng(3)
    order = rng.choice(12, 4000, p=np.arange(1, 13) / 78).tolist()
    cache = LayerCache(
        policy("s3fifo"), 5, np.zeros(12, np.int64), serial=False, resident_first=False
    )
    cache.decide(active_experts_of([[e] for e in order]))
    queue, places = cache.state[ROWS], cache.state[ROWS + 1]
    held = places[queue > 0]
    assert len(set(held.tolist())) == len(held)
    assert held.max() < 5 * len(order)


def test_gate_score_evicts_the_least_weight():
    cache = LayerCache(
        policy("gate_score", decay="0 %"), 2, np.zeros(3, np.int64), serial=False,
        resident_first=False,
    )  # fmt: skip
    weights = np.array([5, 6, 2, 1], np.int64)  # 0: 5 + 2, 1: 6
    activations = cache.decide(active_experts_of([[0], [1], [0], [2]]), None, weights)
    assert activations.victim.tolist() == [-1, -1, -1, 1]


def test_gate_score_decays():
    cache = LayerCache(
        policy("gate_score", decay="50 %"), 2, np.zeros(3, np.int64), serial=False,
        resident_first=False,
    )  # fmt: skip
    activations = cache.decide(
        active_experts_of([[0], [1], [2]]), None, np.array([7, 4, 1], np.int64)
    )
    assert activations.victim.tolist() == [-1, -1, 0]  # 7 halved twice is 1, 4 halved once is 2


EXPERTS = 5  # a vector, and one more
WEIGHTS = st.one_of(st.integers(0, 1 << 24), st.integers(1 << 28, 1 << 40))  # a gate's, and larger


@cache
def compiled_weighing():
    return numba.njit(GateScore.before_activation)


@given(
    st.integers(0, PARTS),
    st.lists(st.integers(0, SMALL), min_size=EXPERTS, max_size=EXPERTS),
    st.lists(st.lists(WEIGHTS, min_size=EXPERTS, max_size=EXPERTS), min_size=1, max_size=9),
)
def test_gate_scores_decay_as_dividing_has_it(taken, scores, passes):
    state = np.zeros((ROWS + GateScore.memory, EXPERTS), np.int64)
    state[ROWS] = scores
    policy("gate_score", decay=f"{taken / 100} %").start(state, 1, np.zeros(EXPERTS, np.bool_), 1)
    for number, weights in enumerate(passes):
        for expert, weight in enumerate(weights):
            compiled_weighing()(expert, 0, number, 0, weight, state)
        kept = (score * (PARTS - taken) // PARTS for score in scores)
        scores = [score + weight for score, weight in zip(kept, weights, strict=True)]
        assert state[ROWS].tolist() == scores


def test_stream_keeps_nothing_and_turns_its_buffers():
    activations = activations_of(policy("stream"), [[0, 1, 2, 3], [3]], Setting(4, 3, serial=True))
    assert not activations.hit.any()
    assert activations.victim.tolist() == [-1, -1, 0, 1, -1]
    assert activations.wait.tolist() == [
        -1,
        -1,
        0,
        1,
        -1,
    ]  # each copy waits for the kernel before last
    assert misses_of(policy("stream", buffers=3), [[0], [0]], Setting(4, 3)) == 2


def pool(kind, slots, steps_of_layers, experts):
    """The activations of each layer of one pool of ``slots``."""
    layers = [active_experts_of(steps) for steps in steps_of_layers]
    steps = Interleaved(layers, experts)
    cache = LayerCache(
        policy(kind, scope="global"), slots, np.zeros(len(layers) * experts, np.int64),
        serial=False, resident_first=False, layers=len(layers),
    )  # fmt: skip
    return list(steps.split(cache.decide(steps.active_experts)))


def test_a_pool_evicts_from_any_layer():
    # Steps (0, layer 0): 1; (0, layer 1): 1; (1, layer 0): 2 evicts layer 0's 1, the oldest; then
    # (1, layer 1) hits its own 1.
    first, second = pool("lru", 2, [[[1], [2]], [[1], [1]]], 3)
    assert first.expert.tolist() == [1, 2]
    assert first.victim.tolist() == [-1, 1]
    assert second.hit.tolist() == [False, True]


def test_least_stale_keeps_a_layer_where_lru_always_evicts_the_next():
    # Three layers in two slots, each with one expert: LRU evicts just what comes next. least_stale
    # has two experts of the running pass at layer 2, and layer 1 comes again after layer 0.
    cyclic = [[[0], [0], [0]]] * 3
    hits = {k: [t.hit.tolist() for t in pool(k, 2, cyclic, 1)] for k in ("lru", "least_stale")}
    assert hits["lru"] == [[False] * 3] * 3
    assert hits["least_stale"] == [[False, True, True], [False] * 3, [False] * 3]


def test_interleaving_goes_by_step_then_layer_and_back():
    layers = [active_experts_of([[1], [], [0, 2]]), active_experts_of([[0, 1], [2], []])]
    steps = Interleaved(layers, 3)
    active = steps.active_experts
    assert active.offsets.tolist() == [0, 1, 3, 3, 4, 6, 6]
    assert active.experts.tolist() == [1, 3, 4, 5, 0, 2]


class FarLru(CachePolicy):
    """LRU by keys that do not fit in a rank with an id."""

    @staticmethod
    def key(expert, state, draw, position, candidates):
        return state[LAST_USE, expert] * (1 << 56)


def test_far_keys_are_compared_themselves():
    order = [[3], [1], [0], [3], [2], [1]]
    far, near = (
        LayerCache(one, 2, np.zeros(4, np.int64), serial=False, resident_first=False)
        for one in (FarLru(), policy("lru"))
    )
    expected = near.decide(active_experts_of(order)).victim.tolist()
    assert far.decide(active_experts_of(order)).victim.tolist() == expected == [-1, -1, 3, 1, 0, 3]
