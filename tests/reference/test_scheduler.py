"""Passes that may not start before an instant: both engines and the judge, to the nanosecond."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay

from .judge import judge
from .judge_batches import Scheduler, passes_of
from .judge_words import Config
from .prices import ToyPrices
from .scenes import scene
from .strategies import Case, cases, prefetching_cases
from .test_des_against_judge import compare, observed
from .test_replay import assert_same
from .wiring import engine_case

DRAWN = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALES = st.sampled_from([20, 300, 3000])
"""Nanoseconds of a pass, about: bounds then lie before and after its end."""


def instants(passes: int, scale: int, seed: int) -> list[int]:
    """Before which each pass may not start; some bind and some do not."""
    random = Random(seed)
    return [random.randrange(scale * (2 + number)) for number in range(passes)]


def bound(theirs: EngineCase, not_before: list[int]) -> EngineCase:
    schedule = replace(theirs.schedule, not_before_ns=np.array(not_before, np.int64))
    return replace(theirs, schedule=schedule)


def bound_passes(case: Case, not_before: list[int]) -> Scheduler:
    passes = passes_of(case.trace, case.config)
    for one, instant in zip(passes, not_before, strict=True):
        one.not_before = instant
    yield passes


def agree_on_instants(case: Case, scale: int, seed: int) -> None:
    theirs = engine_case(case)
    not_before = instants(theirs.schedule.passes, scale, seed)
    theirs, prices = bound(theirs, not_before), case.prices
    verdict = judge(case.trace, case.model, case.config, prices, bound_passes(case, not_before))
    outcome = run_des(theirs, records="layer", check=True)
    compare(verdict, observed(theirs, outcome))
    assert_same(run_replay(theirs), outcome)


@DRAWN
@given(cases(), SCALES, st.integers(0, 1 << 32))
def test_passes_start_no_earlier_than_they_may(case: Case, scale: int, seed: int) -> None:
    agree_on_instants(case, scale, seed)


@DRAWN
@given(cases(prompts=True), SCALES, st.integers(0, 1 << 32))
def test_so_do_those_around_the_caches(case: Case, scale: int, seed: int) -> None:
    agree_on_instants(case, scale, seed)


@DRAWN
@given(prefetching_cases(), SCALES, st.integers(0, 1 << 32))
def test_so_do_those_with_prefetches(case: Case, scale: int, seed: int) -> None:
    """Copies go on while the GPUs wait."""
    agree_on_instants(case, scale, seed)


@DRAWN
@given(cases())
def test_an_instant_that_is_over_changes_nothing(case: Case) -> None:
    theirs = engine_case(case)
    assert_same(run_replay(bound(theirs, [0] * theirs.schedule.passes)), run_des(theirs))


def test_the_wait_is_idle_and_the_pass_as_long_as_ever() -> None:
    trace, model = scene([[0, 1], [0, 1]], 3)
    theirs = engine_case(Case(trace, model, Config(slots=2), ToyPrices()))
    at_once = run_des(theirs)
    end, last = (int(ends[0]) for ends in at_once.ends)
    late = run_des(bound(theirs, [0, end + 500]), check=True)
    assert late.starts.tolist() == [[0], [end + 500]]
    assert late.ends.tolist() == [[end], [last + 500]]
    assert late.charges.tolist() == at_once.charges.tolist()
    assert_same(run_replay(bound(theirs, [0, end + 500])), late)
