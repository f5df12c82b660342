"""Passes that may not start before an instant, and schedulers that are told when passes ended: both
engines and the reference, to the nanosecond.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick import makers as quick
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.run import run_replay
from moesim.memory.policies import registry as policies
from moesim.workload.schedule import Schedule
from moesim.workload.timetable import Passes

from .agreement import assert_same, compare, observed
from .prices import ToyPrices
from .reference import reference
from .reference_batches import Scheduler, passes_of
from .reference_words import DECODE, ENCODE, NO_EXPERT, PREFILL, Config, Layer, Model, Verdict
from .scenes import scene
from .schedulers import Arrivals, arriving, in_parts, reference_arriving, reference_in_parts
from .strategies import Case, cases, few
from .strategies_prefetch import prefetching_cases
from .test_replay import QUICK, decided_at_once
from .wiring import engine_case

SCALES = st.sampled_from([20, 300, 3000])
"""Nanoseconds of a pass, about: bounds then lie before and after its end."""


def instants(passes: int, scale: int, seed: int) -> list[int]:
    """Before which each pass may not start; some bind and some do not."""
    random = Random(seed)
    return [random.randrange(scale * (2 + number)) for number in range(passes)]


def bound(theirs: EngineCase, not_before: list[int]) -> EngineCase:
    schedule = replace(theirs.schedule, not_before_ns=np.array(not_before, np.int64))
    return replace(theirs, schedule=schedule)


def agree_on_instants(case: Case, scale: int, seed: int) -> None:
    theirs = engine_case(case)
    not_before = instants(theirs.schedule.passes, scale, seed)
    all_agree(bound(theirs, not_before), case, reference_in_parts(case, [], not_before))


def all_agree(theirs: EngineCase, case: Case, scheduler: Scheduler) -> Verdict:
    """``theirs`` in both engines, and ``scheduler`` in the reference: what all say."""
    outcome = run_des(theirs, records="layer", check=True)
    verdict = reference(case.trace, case.model, case.config, case.prices, scheduler)
    compare(verdict, observed(replace(theirs, schedule=outcome.schedule), outcome))
    assert_same(run_replay(theirs), outcome)
    return verdict


@given(cases(), SCALES, st.integers(0, 1 << 32))
def test_passes_start_no_earlier_than_they_may(case: Case, scale: int, seed: int) -> None:
    agree_on_instants(case, scale, seed)


@few
@given(cases(prompts=True), SCALES, st.integers(0, 1 << 32))
def test_so_do_those_around_the_caches(case: Case, scale: int, seed: int) -> None:
    agree_on_instants(case, scale, seed)


@few
@given(prefetching_cases(), SCALES, st.integers(0, 1 << 32))
def test_so_do_those_with_prefetches(case: Case, scale: int, seed: int) -> None:
    """Copies go on while the GPUs wait."""
    agree_on_instants(case, scale, seed)


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


def without_foresight(case: Case) -> Case:
    """Under another policy than the one that has to know what comes."""
    policy = "lru" if case.config.policy == "min" else case.config.policy
    return replace(case, config=replace(case.config, policy=policy))


CUTS = st.lists(st.integers(1, 60), max_size=12, unique=True).map(sorted)


def cut_up(theirs: EngineCase, cuts: list[int]) -> tuple[EngineCase, list[int]]:
    cuts = [cut for cut in cuts if cut < theirs.schedule.passes]
    return replace(theirs, scheduler=in_parts(theirs.schedule, cuts)), cuts


@few
@given(cases() | cases(prompts=True), CUTS, SCALES, st.integers(0, 1 << 32))
def test_passes_that_come_in_parts(case: Case, cuts: list[int], scale: int, seed: int) -> None:
    case = without_foresight(case)
    theirs = engine_case(case)
    not_before = instants(theirs.schedule.passes, scale, seed)
    theirs, cuts = cut_up(bound(theirs, not_before), cuts)
    all_agree(theirs, case, reference_in_parts(case, cuts, not_before))


@few
@given(prefetching_cases(), CUTS, SCALES, st.integers(0, 1 << 32))
def test_prefetches_look_as_far_as_passes_are_known(
    case: Case, cuts: list[int], scale: int, seed: int
) -> None:
    case = without_foresight(case)
    theirs = engine_case(case)
    not_before = instants(theirs.schedule.passes, scale, seed)
    theirs, cuts = cut_up(bound(theirs, not_before), cuts)
    all_agree(theirs, case, reference_in_parts(case, cuts, not_before))


@few
@given(cases() | cases(prompts=True), CUTS, st.sampled_from([1, 40]), st.integers(1, 5))
def test_passes_that_wait_for_nothing_are_those_of_a_whole_run(
    case: Case, cuts: list[int], cells: int, block: int
) -> None:
    """Caches, clocks, counts, records, draws and what prices rest on go on, however it is cut."""
    theirs = engine_case(without_foresight(case))
    whole, (parted, _) = run_des(theirs), cut_up(theirs, cuts)
    with patch.object(routing, "CELLS", cells), patch.object(routing, "BLOCK", block):
        assert_same(run_replay(parted), whole)
        assert_same(run_des(parted), whole)


@few
@given(cases(), st.sampled_from(QUICK), CUTS)
def test_so_are_those_that_are_decided_at_once(case: Case, policy: str, cuts: list[int]) -> None:
    theirs = decided_at_once(engine_case(case), policy)
    assume(quick.is_quick(theirs) and not theirs.policy.looks_ahead)
    whole, (parted, _) = run_des(theirs), cut_up(theirs, cuts)
    with patch.object(reuse, "ACTIVATIONS", 40):
        assert_same(run_replay(parted), whole)


@pytest.mark.parametrize("prefill", ["cache", "bypass", "stream"])
def test_prompts_may_come_later(prefill: str) -> None:
    """Whether passes go around the caches is not known at the start."""
    trace, model = scene([[0, 1], [0, 2], [2, 3], [0, 3]], 5)
    trace |= {"request_id": [0, 0, 1, 1], "position": [0, 1, 0, 1]}
    trace |= {"phase": [DECODE, DECODE, PREFILL, DECODE]}
    config = Config(slots=2, phase="all", prefill=prefill)
    case = Case(trace, model, config, ToyPrices())
    theirs, cuts = cut_up(engine_case(case), [1])
    all_agree(theirs, case, reference_in_parts(case, cuts, [0] * 4))


def test_gpus_that_do_not_meet_in_a_pass_meet_after_it() -> None:
    """An encoder without experts: one GPU is far ahead when the scheduler is asked, and copies."""
    encoder, decoder = Layer(0, moe=False, stack="encoder"), Layer(1, moe=True)
    model = Model([encoder, decoder], 4, 1, 1, 1, 100)
    sizes, columns = [9, 1, 9, 1], ("expert_ids", "request_id", "position", "phase")
    trace: dict[str, Any] = {column: [] for column in columns}
    for number, size in enumerate(sizes):
        trace["expert_ids"] += [[[NO_EXPERT]]] * size + [[[number]]]
        trace["request_id"] += [number] * (size + 1)
        trace["position"] += [*range(size), 0]
        trace["phase"] += [ENCODE] * size + [DECODE]
    config = Config(batch_size=2, phase="all", gpus=2, gating="static", slots=1)
    case, order = Case(trace, model, config, ToyPrices()), [0, 2, 1, 3]
    theirs = engine_case(case)

    def passes() -> Passes:
        for place in order:
            yield theirs.schedule.between(place, place + 1)

    def reference_passes() -> Scheduler:
        known = passes_of(trace, config)
        for step, place in enumerate(order):
            yield [replace(known[place], step=step)]

    all_agree(replace(theirs, scheduler=passes), case, reference_passes())


def one_by_one(theirs: EngineCase) -> EngineCase:
    """Under random draws, one pass at a time."""
    passes = theirs.schedule.passes
    drawn = replace(theirs, policy=policies.get("random")())
    return replace(drawn, scheduler=in_parts(theirs.schedule, list(range(1, passes))))


@few
@given(cases())
def test_draws_go_on(case: Case) -> None:
    theirs = decided_at_once(engine_case(case), "random")
    assume(quick.is_quick(theirs) and theirs.schedule.passes > 2)
    assert_same(run_replay(one_by_one(theirs)), run_des(theirs))


def not_in_the_past(theirs: EngineCase) -> EngineCase:
    """No pass begins before it was decided, at the last end of those before."""
    decide = theirs.scheduler
    assert decide is not None

    def passes() -> Passes:
        source, now = decide(), 0
        one = next(source)
        while True:
            ended = yield replace(one, not_before_ns=np.full(one.passes, now))
            now = int(ended.max())
            try:
                one = source.send(ended)
            except StopIteration:
                return

    return replace(theirs, scheduler=passes)


@few
@given(prefetching_cases())
def test_draws_go_on_with_prefetches(case: Case) -> None:
    """What is prefetched before a pass cannot be before the pass was decided: a process of ``des``
    asks for it then, on a GPU, too, that was free before the last pass had ended elsewhere.
    """
    loads = replace(case.config, miss="load", uploads=None)
    theirs = one_by_one(engine_case(replace(case, config=loads)))
    assume(theirs.offloaded and theirs.schedule.passes > 2)
    if theirs.prefetch.before_pass:
        theirs = not_in_the_past(theirs)
    assert_same(run_replay(theirs), run_des(theirs))


ARRIVALS = st.builds(
    Arrivals,
    st.lists(st.integers(0, 2000) | st.integers(0, 40_000), min_size=7, max_size=7).map(sorted),
    st.sampled_from([max, min]),
    st.booleans(),
)


@few
@given(cases() | cases(prompts=True), ARRIVALS)
def test_a_batch_of_those_who_have_arrived(case: Case, arrivals: Arrivals) -> None:
    """What a pass holds depends on when the last one ended."""
    case = without_foresight(case)
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=arriving(theirs, case, arrivals))
    all_agree(theirs, case, reference_arriving(case, arrivals))


@few
@given(cases(), st.sampled_from(QUICK), ARRIVALS)
def test_such_a_batch_decided_at_once(case: Case, policy: str, arrivals: Arrivals) -> None:
    theirs = decided_at_once(engine_case(case), policy)
    assume(quick.is_quick(theirs) and not theirs.policy.looks_ahead)
    theirs = replace(theirs, scheduler=arriving(theirs, case, arrivals))
    assert_same(run_replay(theirs), run_des(theirs))


@few
@given(prefetching_cases(), ARRIVALS)
def test_such_a_batch_with_prefetches(case: Case, arrivals: Arrivals) -> None:
    case = without_foresight(case)
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=arriving(theirs, case, arrivals))
    all_agree(theirs, case, reference_arriving(case, arrivals))


def small() -> EngineCase:
    trace, model = scene([[0, 1], [1, 2], [0, 2]], 3)
    return engine_case(Case(trace, model, Config(slots=2), ToyPrices()))


@pytest.mark.parametrize("run", [run_des, run_replay])
def test_a_scheduler_is_told_when_each_gpu_has_ended(run: Any) -> None:
    theirs, told = small(), []

    def passes() -> Passes:
        for number in range(3):
            ended = yield theirs.schedule.between(number, number + 1)
            told.append(ended.tolist())

    outcome = run(replace(theirs, scheduler=passes))
    assert told == outcome.ends.tolist()
    assert outcome.schedule.rows.tolist() == theirs.schedule.rows.tolist()


def test_what_was_decided_for_other_passes_is_not_taken_over() -> None:
    """Two runs may begin alike and go on otherwise."""
    theirs, log = small(), DecisionLog()
    whole = theirs.schedule

    def other() -> Passes:
        yield whole.between(0, 1)
        yield whole.between(2, 3)

    for scheduler in (in_parts(whole, [1]), other):
        case = replace(theirs, scheduler=scheduler)
        assert_same(run_replay(case, log=log), run_des(case))


@pytest.mark.parametrize("run", [run_des, run_replay])
def test_what_looks_ahead_is_refused(run: Any) -> None:
    theirs = replace(small(), policy=policies.get("min")())
    theirs = replace(theirs, scheduler=in_parts(theirs.schedule, []))
    with pytest.raises(InputError, match=r"experts\.policy: 'min' looks ahead, but"):
        run(theirs)


@pytest.mark.parametrize("run", [run_des, run_replay])
@pytest.mark.parametrize("parts", [0, 2])
def test_a_part_without_passes_is_refused(run: Any, parts: int) -> None:
    theirs = small()

    def passes() -> Passes:
        for number in range(parts):
            yield theirs.schedule.between(number, number + 1)
        yield theirs.schedule.between(0, 0)

    with pytest.raises(InputError, match="yields a schedule without a forward pass"):
        run(replace(theirs, scheduler=passes))


@pytest.mark.parametrize("run", [run_des, run_replay])
def test_a_scheduler_that_yields_nothing_is_refused(run: Any) -> None:
    def passes() -> Passes:
        yield from list[Schedule]()

    with pytest.raises(InputError, match="yields a schedule without a forward pass"):
        run(replace(small(), scheduler=passes))
