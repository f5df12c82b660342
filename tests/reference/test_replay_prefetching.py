"""The compiled engine on prefetches: equal to des in every field, and to the judge."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numba import njit, types

from moesim.engine import routing
from moesim.engine.ahead import prefetches
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.callback import ASK, Callback
from moesim.engine.replay.run import run_replay

from .strategies import Case, prefetching_cases
from .test_des_against_judge import compare, observed
from .test_des_prefetching import verdict_of
from .test_replay import assert_same
from .wiring import engine_case

SLOW = [HealthCheck.too_slow]


def prefetching(case: Case) -> EngineCase:
    """Without those whose experts are all resident, which are decided beforehand."""
    theirs = engine_case(case)
    assume(prefetches(theirs))
    return theirs


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases())
def test_replay_is_des_with_prefetches(case: Case) -> None:
    theirs = prefetching(case)
    assert_same(run_replay(theirs), run_des(theirs))


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases(), st.sampled_from([1, 40, 200]))
def test_where_the_run_is_cut_changes_nothing(case: Case, cells: int) -> None:
    """Caches, queues and clocks are carried over; des is not cut."""
    theirs = prefetching(case)
    whole = run_des(theirs)
    with patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), whole)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases())
def test_replay_agrees_with_the_judge_on_prefetches(case: Case) -> None:
    theirs = prefetching(case)
    compare(verdict_of(case), observed(theirs, run_replay(theirs)))


def test_what_a_callback_raises_is_raised_afterwards() -> None:
    """Compiled code asks Python for prices, and cannot pass an error on."""
    ask = Callback(lambda number: 6 // number, ASK)
    called = njit(types.int64(types.FunctionType(ASK), types.int64))(lambda ask, n: ask(n))
    assert called(ask, 2) == 3
    ask.check()
    assert called(ask, 0) == 0
    with pytest.raises(ZeroDivisionError):
        ask.check()
