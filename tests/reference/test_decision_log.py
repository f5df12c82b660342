"""Runs that share active experts, stack distances and decisions give what each gives alone."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch
from weakref import ref

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.replay.log import DecisionLog, Parts
from moesim.engine.replay.quick import makers as quick
from moesim.engine.replay.quick import reuse, stack_distances
from moesim.engine.replay.quick.any_rows import AnyRows
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.run import run_replay
from moesim.engine.routing import Routing
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.memory.curves.stack import Stack
from moesim.memory.policies import registry as policies

from .agreement import assert_same
from .strategies import Case, cases, few
from .test_replay import QUICK, decided_at_once
from .wiring import engine_case

QUICKSTART = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet"}


@st.composite
def variants(draw: st.DrawFn, first: EngineCase) -> list[EngineCase]:
    """Runs with other slots, policies and prices, in any order, some of them twice."""
    several = []
    for _ in range(draw(st.integers(2, 6))):
        policy = policies.get(draw(st.sampled_from(QUICK)))()
        slots = np.full_like(first.slots, draw(st.integers(1, 8)))
        host_per_copy_ns, seed = draw(st.sampled_from([0.0, 70.0])), draw(st.integers(0, 1))
        dearer = first.software.model_copy(update={"host_per_copy_ns": host_per_copy_ns})
        several.append(replace(first, policy=policy, slots=slots, software=dearer, seed=seed))
    return several + draw(st.lists(st.sampled_from(several), max_size=3))


@few
@given(cases(), st.data(), st.booleans(), st.sampled_from([0, 500, 1 << 20]))
def test_a_log_changes_nothing(case: Case, data: st.DataObject, decisions: bool, most: int) -> None:
    first = decided_at_once(engine_case(case), "lru")
    assume(quick.is_quick(first))
    runs = data.draw(variants(first))
    log = DecisionLog(decisions=decisions, most_bytes=most)
    before = {kind: min(runs, 1) for kind, runs in stack_distances.RUNS_BEFORE.items()}
    with (
        patch.object(reuse, "ACTIVATIONS", 40),
        patch.object(stack_distances, "RUNS_BEFORE", before),
    ):
        for run in runs:
            assert_same(run_replay(run, log=log), run_replay(run))


def runs_of(case: EngineCase, policy: str, slots: list[int]) -> list[EngineCase]:
    chosen = policies.get(policy)()
    return [replace(case, policy=chosen, slots=np.full_like(case.slots, n)) for n in slots]


@pytest.mark.parametrize("policy", ["lru", "lfu", "min"])
def test_residents_first_decide_as_alone(policy: str) -> None:
    """What was used last in a step then depends on its hits, and so on the slots."""
    case = build(load_experiment(QUICKSTART).experiment, 60).case
    log = DecisionLog()
    for run in runs_of(replace(case, order="resident_first"), policy, [8, 12, 6, 20, 16, 5, 10, 7]):
        assert_same(run_replay(run, log=log), run_replay(run))


@pytest.mark.parametrize("policy", ["lru", "lfu", "min"])
def test_one_pass_serves_all_sizes(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the runs that decide by themselves, one follows the stack, and later ones read it."""
    case = build(load_experiment(QUICKSTART).experiment, 60).case
    case = replace(case, kernels="serial")  # else a row's misses are found sooner than read
    every = runs_of(case, policy, [8, 12, 6, 20, 16, 5, 10, 4])
    alone = [run_replay(run) for run in every]
    followed: list[int] = []
    for kind, name in ((stack_distances, "follow_all"), (Stack, "stack_distances")):
        monkeypatch.setattr(kind, name, spied(getattr(kind, name), followed))
    log, before = DecisionLog(), stack_distances.RUNS_BEFORE[type(policies.get(policy)())]
    for number, run in enumerate(every):
        assert_same(run_replay(run, log=log), alone[number])
        assert bool(followed) == (number >= before)
    runs = len(list(Reuse(case, Routing(case), None, by_layer=True).runs()))
    assert len(followed) == runs * (1 if policy == "lru" else len(case.model.moe_layers))


def spied(stack_distances_of: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def called(*given: Any) -> Any:
        calls.append(1)
        return stack_distances_of(*given)

    return called


@pytest.mark.parametrize("policy", ["lru", "lfu", "min"])
def test_layers_that_are_resident_miss_nothing(policy: str) -> None:
    """One pass for all sizes begins with empty slots, and they do not."""
    case = build(load_experiment(QUICKSTART).experiment, 60).case
    log, everything = DecisionLog(), 32
    sizes = [8, 12, 6, 20, 16, 5, everything, 10]
    some = np.where(np.arange(case.slots.shape[1]) % 2, everything, [[9]])
    for run in (*runs_of(case, policy, sizes), replace(case, slots=some)):
        shared_run = run_replay(run, log=log)
        assert_same(shared_run, run_replay(run))
        resident = run.slots[0] == everything
        assert (shared_run.counts.hits == shared_run.counts.activations)[:, resident].all()


@pytest.mark.parametrize("policy", ["min", "lfru", "hobbit"])
def test_a_row_a_pass_is_decided_once_for_all_prices(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = runs_of(build(load_experiment(QUICKSTART).experiment, 60).case, policy, [9])
    dearer = case.software.model_copy(update={"host_per_copy_ns": 70.0})
    runs = [case, replace(case, software=dearer), *runs_of(case, policy, [12])]
    alone, decided = [run_replay(run) for run in runs], list[int]()
    monkeypatch.setattr(AnyRows, "_begin", spied(AnyRows._begin, decided))
    log, asked = DecisionLog(decisions=True), []
    for run, of_one in zip(runs, alone, strict=True):
        assert_same(run_replay(run, log=log), of_one)
        asked.append(len(decided))
    assert asked[0] == asked[1] < asked[2]


@pytest.mark.parametrize("batch", [1, 4])
def test_another_seed_is_other_luck(batch: int) -> None:
    batching = {"batching": {"kind": "static", "batch_size": batch}}
    case = build(load_experiment(QUICKSTART | {"workload": batching}).experiment, 60).case
    (case,), log = runs_of(case, "random", [18]), DecisionLog(decisions=True)
    for seed in (0, 1, 0):
        run = replace(case, seed=seed)
        assert_same(run_replay(run, log=log), run_replay(run))


@pytest.mark.parametrize("policy", ["lru", "lfu", "min"])
def test_a_log_keeps_no_trace_alive(policy: str) -> None:
    """A sweep over many traces would hold them all."""
    case = build(load_experiment(QUICKSTART).experiment, 60).case
    log, trace = DecisionLog(decisions=True), replace(case.trace)
    for run in (*runs_of(replace(case, trace=trace), policy, [8, 12]), case):
        run_replay(run, log=log)
    there = ref(trace)
    del trace
    gc.collect()
    assert log.asked
    assert there() is None


def test_what_is_kept_does_not_go_by_what_the_memory_held(monkeypatch: pytest.MonkeyPatch) -> None:
    batching = {"kind": "static", "batch_size": 4}
    wide = QUICKSTART | {"workload": {"batching": batching}, "parallelism": {"expert": 2}}
    case, sizes = build(load_experiment(wide).experiment, 60).case, set()
    run_replay(case, log=DecisionLog(decisions=True))  # what it needs is compiled with NumPy's own
    for held in (0, -1, 1 << 62):
        filled = partial(np.full, fill_value=held)
        monkeypatch.setattr(np, "empty", lambda shape, dtype, of=filled: of(shape).astype(dtype))
        run_replay(case, log=(log := DecisionLog(decisions=True)))
        sizes.add(log._size)
    assert len(sizes) == 1


def test_parts_that_are_too_many_are_not_held() -> None:
    parts = Parts(DecisionLog(most_bytes=10), "key")
    for part in range(20):
        parts.arrays(part, lambda: (np.zeros(1, np.int64),))
    assert not parts._made
    parts.end()
    assert not parts.known


def test_a_log_forgets_what_was_used_least_recently() -> None:
    log = DecisionLog(most_bytes=10)
    for key in "abc":
        log.put(key, key.upper(), 4)
    assert [log.get(key) for key in "abc"] == [None, "B", "C"]
    log.get("b")
    log.put("d", "D", 6)
    assert [log.get(key) for key in "bcd"] == ["B", None, "D"]
    log.put("e", "E", 11)
    assert log.get("e") is None
