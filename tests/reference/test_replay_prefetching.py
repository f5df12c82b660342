"""The compiled engine on prefetches; that it is des and the reference is in ``test_engines.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numba import njit, types

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.callback import ASK, Callback
from moesim.engine.replay.run import run_replay
from moesim.memory.activations import ActiveExperts
from moesim.memory.misses.load import Load
from moesim.memory.policy import ROWS, CachePolicy
from moesim.memory.prefetch.base import Prefetcher, View

from .agreement import assert_same
from .strategies import Case, few
from .strategies_prefetch import prefetching_cases
from .wiring import engine_case


def prefetching(case: Case) -> EngineCase:
    """Without those whose experts are all resident, which are decided beforehand."""
    theirs = engine_case(case)
    assume(theirs.prefetches)
    return theirs


@few
@given(prefetching_cases(), st.sampled_from([1, 40, 200]))
def test_where_the_run_is_cut_changes_nothing(case: Case, cells: int) -> None:
    """Caches, queues and clocks are carried over."""
    theirs = prefetching(case)
    whole = run_replay(theirs)
    with patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), whole)


class Lately(Prefetcher):
    """Predicts all that was needed in the last three passes."""

    kind: Literal["lately"] = "lately"

    @property
    def remembers(self) -> int:
        """Three."""
        return 3

    def predict(self, view: View, _source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        known, past = view.known(target, gpu)
        ends = range(past, past + view.passes)
        found = [np.unique(known.between(max(0, end - 3), end).experts) for end in ends]
        return ActiveExperts(np.cumsum([0, *map(len, found)]), np.concatenate(found))


@few
@given(prefetching_cases(), st.sampled_from([1, 40, 200]))
def test_what_a_prefetcher_remembers_is_there_wherever_the_run_is_cut(
    case: Case, cells: int
) -> None:
    theirs = replace(prefetching(case), prefetch=Lately())
    assume(not theirs.variants)
    whole = run_replay(theirs)
    with patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), whole)
        assert_same(run_des(theirs), whole)


class OfRequest(CachePolicy):
    """Evicts what was used least often since a request began, by a key of the expert alone."""

    kind: Literal["of_request"] = "of_request"
    memory: ClassVar[int] = 1
    restarts: ClassVar[bool] = True

    def start_request(self, state: Any, this_pass: int) -> None:
        """See ``CachePolicy``."""
        state[ROWS] = 0

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """Count it."""
        state[ROWS, expert] += 1

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The count."""
        return state[ROWS, expert]


@few
@given(prefetching_cases())
def test_slots_are_ranked_anew_where_a_policy_begins_anew(case: Case) -> None:
    theirs = prefetching(case)
    assume(theirs.miss.loads and not theirs.variants)
    theirs = replace(theirs, policy=OfRequest(scope=theirs.policy.scope), miss=Load())
    assert_same(run_replay(theirs), run_des(theirs))


def test_what_a_callback_raises_is_raised_afterwards() -> None:
    """Compiled code asks Python for prices, and cannot pass an error on."""
    ask = Callback(lambda number: 6 // number, ASK)
    called = njit(types.int64(types.FunctionType(ASK), types.int64))(lambda ask, n: ask(n))
    assert called(ask, 2) == 3
    ask.check()
    assert called(ask, 0) == 0
    with pytest.raises(ZeroDivisionError):
        ask.check()
