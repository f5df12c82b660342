"""Passes of a row each on one GPU under LRU, of which nothing is kept but what each layer misses,
against `des`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay import run
from moesim.engine.replay.quick import makers as quick
from moesim.engine.replay.quick import next_use, reuse
from moesim.engine.replay.quick import one_row as rows
from moesim.engine.replay.quick.any_rows import AnyRows
from moesim.engine.replay.quick.one_launch import (
    ALIKE,
    ALL,
    FEWER,
    chosen_apart,
    have_one_launch,
    may_have_one_launch,
)
from moesim.engine.replay.quick.one_row import OneRow
from moesim.engine.replay.run import run_replay
from moesim.memory.policies import registry as policies
from moesim.memory.policies.lru import Lru
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary
from moesim.trace.routing import NO_EXPERT

from .agreement import assert_same
from .strategies import Case, cases, few, runnable
from .test_replay import QUICK, decided_at_once
from .wiring import engine_case

ALONE: dict[str, Any] = {
    "gpus": 1, "nodes": 1, "group": 1, "slices": 1, "reduces": False, "gating": "dynamic",
    "placement": "contiguous", "plan": None, "batch_size": 1, "phase": "decode", "policy": "lru",
    "parameters": {}, "scope": "layer", "miss": "load", "uploads": None, "near_memory": False,
    "order": "id", "protect": "step", "initial": "empty",
}  # fmt: skip


def apart(theirs: EngineCase, draw: Any) -> EngineCase:
    """The case whose tokens choose experts that differ, popular and unpopular ones."""
    top_k, experts = theirs.trace.top_k, int(theirs.placement.logical.max()) + 1
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    scores = rng.gumbel(size=(*theirs.trace.expert_ids.shape[:2], experts))
    scores += draw(st.sampled_from([0.0, 0.8])) * np.arange(experts)
    ids = np.argsort(-scores)[:, :, :top_k].astype(np.uint16)
    return replace(theirs, trace=replace(theirs.trace, expert_ids=np.ascontiguousarray(ids)))


def one_row(case: Case, draw: Any) -> EngineCase:
    """The case one token at a time, on one GPU whose slots hold what a token needs of experts that
    differ.
    """
    kernels = draw(st.sampled_from(["grouped", "batched"]))
    config = runnable(replace(case.config, **ALONE, kernels=kernels), case.trace)
    theirs = decided_at_once(engine_case(replace(case, config=config)), "lru")
    top_k, experts = theirs.trace.top_k, theirs.placement.physical
    layers = theirs.slots.shape[1]
    few, many = st.integers(top_k, max(top_k, experts - 1)), st.integers(top_k, experts + 1)
    slots = draw(st.lists(few | many, min_size=layers, max_size=layers))
    return apart(replace(theirs, slots=np.array([slots]), kernels=kernels), draw)


def listed(draw: Any) -> Any:
    """A pool may be a list, however few its experts are."""
    return patch.object(rows, "MANY", draw(st.sampled_from([0, rows.MANY])))


def taken(theirs: EngineCase) -> Any:
    """What is made by ``OneRow`` alone."""
    assume(quick.maker_of(theirs, None) is OneRow)
    return patch.object(run, "CommonProgram", None)


@given(cases(), st.data(), st.sampled_from([1, 40, routing.CELLS]))
def test_passes_of_a_row_are_des(case: Case, data: st.DataObject, cells: int) -> None:
    theirs = one_row(case, data.draw)
    with taken(theirs), patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases(), st.data(), st.sampled_from(QUICK), st.sampled_from([1, 40, reuse.ACTIVATIONS]))
def test_of_any_policy_a_layer_is_one_launch(
    case: Case, data: st.DataObject, policy: str, activations: int
) -> None:
    """Launches and copies are not told one by one, but decided in slots."""
    theirs = replace(one_row(case, data.draw), policy=policies.get(policy)())
    theirs = replace(theirs, initial=data.draw(st.sampled_from(["empty", "lowest_ids", "random"])))
    assume(quick.is_quick(theirs) and may_have_one_launch(theirs) and theirs.offloaded)
    assert quick.maker_of(theirs, None) is (OneRow if policy == "lru" else AnyRows)
    held = patch.object(next_use, "RUNS_HELD", 3)
    with held, patch.object(reuse, "ACTIVATIONS", activations):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases(), st.data(), st.sampled_from([1, 40]))
def test_passes_of_a_row_are_added_up_as_they_come(
    case: Case, data: st.DataObject, cells: int
) -> None:
    theirs = one_row(case, data.draw)
    with taken(theirs), patch.object(routing, "CELLS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts_of(theirs, 0.1))
        )
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)


@few
@given(cases(), st.data(), st.booleans())
def test_rows_that_choose_less_are_decided_as_others_are(
    case: Case, data: st.DataObject, twice: bool
) -> None:
    """One choice is missing, or is another one once more."""
    theirs = one_row(case, data.draw)
    ids = theirs.trace.expert_ids.copy()
    assume(quick.is_quick(theirs) and ids.shape[2] > 1)
    row = data.draw(st.sampled_from(theirs.schedule.routing_rows.tolist()))
    layer, choice = (data.draw(st.integers(0, size - 1)) for size in ids.shape[1:])
    ids[row, layer, choice] = ids[row, layer, choice - 1] if twice else NO_EXPERT
    less = replace(theirs, trace=replace(theirs.trace, expert_ids=ids))
    assert not have_one_launch(less)
    assert_same(run_replay(less), run_des(less))


@pytest.mark.parametrize("top_k", [1, 2, 4, 5, 8, 9])
def test_any_two_choices_are_compared(top_k: int) -> None:
    """Also the last ones; those of other layers may be the same."""
    ids = np.tile(np.arange(top_k, dtype=np.uint16), (3, 4, 1))
    rows = np.array([2, 0])
    assert chosen_apart(ids, rows) == ALL
    for one in range(top_k):
        for other in range(top_k):
            changed = ids.copy()
            changed[0, 3, other] = one
            assert chosen_apart(changed, rows) == (ALL if one == other else ALIKE)
            assert chosen_apart(changed, rows[:1]) == ALL
    ids[2, 3, top_k - 1] = NO_EXPERT
    assert chosen_apart(ids, rows) == FEWER


@given(cases(), st.data())
def test_a_pool_beside_a_resident_layer_goes_the_common_way(
    case: Case, data: st.DataObject
) -> None:
    """That layer takes no slots of the pool."""
    theirs = one_row(case, data.draw)
    slots = theirs.slots.copy()
    slots[0, 0] = theirs.placement.physical
    theirs = replace(theirs, slots=slots, policy=Lru(scope="global"))
    assume(theirs.offloaded)
    assert not OneRow.takes(theirs)
    assert_same(run_replay(theirs), run_des(theirs))
