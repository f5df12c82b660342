"""Curves are what ``decide`` counts size by size, and what a second definition counts by hand."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.active_experts import layer_active_experts, layer_weights, one_by_one
from moesim.memory.curves.curve import miss_curve
from moesim.memory.curves.verdict import Verdict, slots_for
from moesim.memory.policies import registry
from moesim.memory.policy import WEIGHT_UNIT
from moesim.memory.slots.residency import Given, LayerCache, next_uses
from moesim.trace.routing import NO_EXPERT, RoutingTrace, TraceMetadata
from moesim.workload.schedule import Schedule

ONE_PASS = {"lru", "lfu", "min", "static"}
FAST = [*sorted(ONE_PASS), "fifo", "lifo"]


@st.composite
def layers(draw):
    """Experts of a layer, and steps that need some of them: few, many, none, or all."""
    experts = draw(st.integers(1, 9))
    most = draw(st.integers(1, experts))
    step = st.sets(st.integers(0, experts - 1), max_size=most)
    steps = [sorted(one) for one in draw(st.lists(step, max_size=40))]
    return experts, active_experts_of(steps)


def active_experts_of(steps):
    lengths = [len(step) for step in steps]
    flat = [e for step in steps for e in step]
    return ActiveExperts(
        np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))), np.array(flat, np.int64)
    )


def by_size(policy, active, usage, weights, draws):
    """Misses of every size by the engine's own decisions."""
    after = next_uses(active, len(usage))[0] if policy.looks_ahead else None
    misses = []
    for slots in range(1, len(usage) + 1):
        cache = LayerCache(
            policy, slots, usage, serial=False, resident_first=False, given=Given(draws=draws)
        )
        misses.append(int((~cache.decide(active, after, weights).hit).sum()))
    return misses


def check(kind, experts, active, seed):
    random = np.random.default_rng(seed)
    usage = random.integers(0, 4, experts)
    weights = random.integers(0, 100, len(active.experts))
    draws = random.random(len(active.experts))
    policy = registry.get(kind)()
    curve = miss_curve(policy, active, usage, weights=weights, draws=draws)
    assert curve.misses.tolist() == by_size(policy, active, usage, weights, draws)
    return curve


@pytest.mark.parametrize("kind", FAST)
@given(layer=layers(), seed=st.integers(0, 99))
def test_a_curve_is_what_every_size_decides(kind, layer, seed):
    experts, active = layer
    check(kind, experts, active, seed)
    check(kind, experts, one_by_one(active), seed)


@pytest.mark.parametrize("kind", sorted(set(registry.components) - set(FAST)))
@given(layer=layers(), seed=st.integers(0, 99))
def test_other_policies_are_simulated(kind, layer, seed):
    experts, active = layer
    assert not check(kind, experts, active, seed).one_pass.any()


@pytest.mark.parametrize("kind", FAST)
@pytest.mark.parametrize(("experts", "most"), [(32, 4), (32, 31), (70, 20)])
def test_long_curves(kind, experts, most):
    random = np.random.default_rng(experts + most)
    likely = random.dirichlet(np.ones(experts))
    steps = [
        np.unique(random.choice(experts, size=random.integers(1, most + 1), p=likely))
        for _ in range(400)
    ]
    check(kind, experts, active_experts_of(steps), most)


@pytest.mark.parametrize("kind", FAST)
def test_one_pass_begins_where_every_step_fits(kind):
    active = active_experts_of([[0, 1, 2], [3], [0, 4]])
    curve = miss_curve(registry.get(kind)(), active, np.zeros(6, np.int64))
    first = {"lru": 1, "fifo": 7, "lifo": 7}.get(kind, 3)
    assert curve.one_pass.tolist() == [slots >= first for slots in range(1, 7)]


@given(layers())
def test_one_by_one_is_the_textbook(layer):
    """LRU of every library: a stack distance of each access; and Belady's farthest next use."""
    experts, active = layer
    usage, single = np.zeros(experts, np.int64), one_by_one(active)
    accesses = active.experts.tolist()
    lru = miss_curve(registry.get("lru")(), single, usage).misses
    belady = miss_curve(registry.get("min")(), single, usage).misses
    for slots in range(1, experts + 1):
        assert lru[slots - 1] == textbook_lru(accesses, slots)
        assert belady[slots - 1] == textbook_belady(accesses, slots)


def textbook_lru(accesses, slots):
    held: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for e in accesses:
        misses += e not in held
        held[e] = None
        held.move_to_end(e)
        if len(held) > slots:
            held.popitem(last=False)
    return misses


def textbook_belady(accesses, slots):
    held: set[int] = set()
    misses = 0
    for now, e in enumerate(accesses):
        if e in held:
            continue
        misses += 1
        rest = accesses[now + 1 :]
        if len(held) == slots:
            held.remove(max(held, key=lambda x: rest.index(x) if x in rest else len(rest)))
        held.add(e)
    return misses


@given(layers())
def test_a_stack_never_misses_more_with_more_slots(layer):
    """Once every step fits; below, rule (c) may evict what the step still needs."""
    experts, active = layer
    largest = max(1, int(np.diff(active.offsets).max(initial=1)))
    for kind in sorted(ONE_PASS):
        misses = miss_curve(registry.get(kind)(), active, np.zeros(experts, np.int64)).misses
        assert (np.diff(misses[largest - 1 :]) <= 0).all()
        assert misses[-1] == len(np.unique(active.experts))


def test_rule_c_evicts_what_the_step_still_needs():
    """Slots hold 1 and 2; expert 0 evicts 2, and 2 misses at its own activation. With 1 slot all
    miss.
    """
    active = active_experts_of([[1, 2], [0, 1, 2]])
    curve = miss_curve(registry.get("lru")(), active, np.zeros(3, np.int64))
    assert curve.misses.tolist() == [5, 4, 3]


@given(st.data())
def test_needs_are_the_distinct_experts_of_each_pass(data):
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4)))
    ids = data.draw(arrays(np.uint16, shape, elements=st.integers(0, 5) | st.just(NO_EXPERT)))
    cuts = data.draw(st.sets(st.integers(1, shape[0] - 1))) if shape[0] > 1 else set()
    rows = np.array(data.draw(st.permutations(range(shape[0]))), np.int64)
    offsets = np.array([0, *sorted(cuts), shape[0]])
    schedule = Schedule(offsets, rows, rows * 0, rows * 0, np.ones(len(offsets) - 1, np.uint8))
    trace = trace_of(ids)
    for layer in range(shape[1]):
        active, weights = (
            layer_active_experts(trace, schedule, layer),
            layer_weights(trace, schedule, layer),
        )
        for one in range(schedule.passes):
            span = slice(*active.offsets[one : one + 2])
            chosen = ids[rows[offsets[one] : offsets[one + 1]], layer].ravel()
            distinct, counts = np.unique(chosen[chosen != NO_EXPERT], return_counts=True)
            assert active.experts[span].tolist() == distinct.tolist()
            assert weights[span].tolist() == (counts * (WEIGHT_UNIT // 4)).tolist()


def trace_of(ids):
    """A trace of these choices, each with a weight of a quarter."""
    tokens, layers_, top_k = ids.shape
    about = TraceMetadata(None, 6, top_k, tuple(range(layers_)), "", "", "")
    return RoutingTrace(
        ids, np.zeros(tokens, np.int32), np.arange(tokens, dtype=np.int32),
        np.ones(tokens, np.uint8), np.full(ids.shape, 0.25, np.float16), None, about,
    )  # fmt: skip


def test_the_parts_of_a_verdict_are_lru():
    lru, best = np.array([90, 60, 30, 4]), np.array([90, 50, 10, 4])
    found = Verdict.of(lru, best)
    np.testing.assert_array_equal(found.compulsory + found.capacity + found.replacement, lru)
    assert found.limits == ["working set", "working set", "policy", "first uses"]
    np.testing.assert_allclose(found.compulsory_share, [4 / 90, 4 / 50, 4 / 10, 1])


@pytest.mark.parametrize(
    ("misses", "slots"), [([100, 19, 10, 0], 3), ([100, 9, 0], 2), ([5, 5], 1), ([7], 1)]
)
def test_slots_for_most_of_the_gain(misses, slots):
    assert slots_for(np.array(misses)) == slots
