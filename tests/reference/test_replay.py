"""The compiled engine where it has ways of its own; ``test_engines.py`` has the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.padded_program import is_padded
from moesim.engine.replay.quick import makers as quick
from moesim.engine.replay.quick import next_use, reuse
from moesim.engine.replay.run import run_replay
from moesim.gating import registry as gatings
from moesim.gating.dynamic import Dynamic
from moesim.memory.misses.load import Load
from moesim.memory.policies import registry as policies
from moesim.memory.policy import FREQUENCY, NEXT_USE, CachePolicy
from moesim.metrics.block_sums import blocks_of, cuts_of
from moesim.metrics.summary import summary
from moesim.metrics.tables import requests_table, steps_table

from .agreement import assert_same
from .strategies import Case, cases, few
from .wiring import engine_case

QUICK = sorted(policies.components)


def decided_at_once(theirs: EngineCase, policy: str) -> EngineCase:
    """The case under ``policy``, changed so far that the quick program takes it, if it can be."""
    kernels: Any = "serial" if theirs.kernels == "serial" else "grouped"
    chosen = policies.get(policy)()
    return replace(
        theirs, policy=chosen, gating=Dynamic(), miss=Load(), prefill="cache", kernels=kernels
    )


@given(cases(), st.sampled_from(QUICK))
def test_what_is_decided_at_once_is_des(case: Case, policy: str) -> None:
    theirs = decided_at_once(engine_case(case), policy)
    assume(quick.is_quick(theirs))
    with patch.object(reuse, "ACTIVATIONS", 40), patch.object(next_use, "RUNS_HELD", 3):
        assert_same(run_replay(theirs), run_des(theirs))


class RareAndFar(CachePolicy):
    """Nobody's: the fewest activations, then the next use, latest first."""

    kind: Literal["rare_and_far"] = "rare_and_far"
    looks_ahead: ClassVar[bool] = True

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """Next uses as numbers, not only in their order."""
        return (state[FREQUENCY, expert] << 22) - min(state[NEXT_USE, expert], 1 << 40)


@few
@given(cases())
def test_a_policy_that_no_engine_knows_is_decided_at_once_too(case: Case) -> None:
    theirs = replace(decided_at_once(engine_case(case), "min"), policy=RareAndFar())
    assume(quick.is_quick(theirs))
    with patch.object(reuse, "ACTIVATIONS", 40), patch.object(next_use, "RUNS_HELD", 3):
        assert_same(run_replay(theirs), run_des(theirs))


@given(cases(), st.sampled_from(["id", "resident_first"]))
def test_least_stale_with_slots_by_layer_is_lru_where_steps_run_by_id(
    case: Case, order: Literal["id", "resident_first"]
) -> None:
    theirs = replace(engine_case(case), policy=policies.get("least_stale")(), order=order)
    assert_same(run_replay(theirs), run_des(theirs))


@given(cases(), st.sampled_from(["static", "tutel", "gshard"]), st.sampled_from([40, 1 << 21]))
def test_padded_gating_is_decided_once_for_all_that_do_the_same(
    case: Case, kind: str, cells: int
) -> None:
    theirs = replace(engine_case(case), gating=gatings.get(kind)())
    assume(is_padded(theirs))
    with patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases(), st.sampled_from([1, 40, 200]), st.integers(1, 5))
def test_where_the_run_is_cut_changes_nothing(case: Case, cells: int, block: int) -> None:
    """The state of caches and clocks is carried over."""
    theirs = engine_case(case)
    whole = run_replay(theirs)
    with (
        patch.object(routing, "CELLS", cells),
        patch.object(reuse, "ACTIVATIONS", cells // 2 + 1),
        patch.object(routing, "BLOCK", block),
    ):
        assert_same(run_replay(theirs), whole)


@few
@given(cases(), st.sampled_from([1, 40]))
def test_what_is_added_up_as_it_comes_gives_the_same_numbers(case: Case, cells: int) -> None:
    theirs = engine_case(case)
    cuts = cuts_of(theirs, 0.1)
    with patch.object(routing, "CELLS", cells), patch.object(reuse, "ACTIVATIONS", cells):
        fine, coarse = (
            replace(run_replay(theirs, records="summary", cuts=one), seconds=0)
            for one in (None, cuts)
        )
    rows = theirs.schedule.passes if cuts is None else len(cuts)
    assert len(coarse.charges) == len(coarse.counts.hits) == rows
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)
    assert requests_table(theirs, fine).equals(requests_table(theirs, coarse))
    assert blocks_of(theirs, fine).sums.equals(blocks_of(theirs, coarse).sums)
    assert np.array_equal(fine.largest_copy(theirs), coarse.largest_copy(theirs))


@given(cases())
def test_coarser_records_give_the_same_numbers(case: Case) -> None:
    """Counts of equal layers are then kept as one."""
    theirs = engine_case(case)
    fine, coarse = (replace(run_replay(theirs, records=r), seconds=0) for r in ("layer", "step"))
    assert summary(theirs, fine, 0.1) == summary(theirs, coarse, 0.1)
    assert steps_table(theirs, fine).equals(steps_table(theirs, coarse))
    assert not len(coarse.layers)
