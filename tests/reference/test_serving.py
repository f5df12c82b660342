"""Passes that hold tokens of answers and of prompts, with positions that the scheduler says: both
engines and the reference, to the nanosecond.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.engine.captured import Captured
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.hardware.charge import CHARGES
from moesim.memory.policies import registry as policies
from moesim.metrics.summary import per_request
from moesim.metrics.tables import requests_table, steps_table
from moesim.workload.schedule import Schedule
from moesim.workload.served import Served
from moesim.workload.timetable import Passes

from .agreement import assert_same
from .prices import ToyPrices
from .reference_words import Config
from .scenes import scene
from .serving import Service, Wish, reference_server, server
from .strategies import Case, cases, few
from .strategies_prefetch import prefetching_cases
from .test_replay import QUICK, decided_at_once
from .test_scheduler import all_agree, without_foresight
from .wiring import engine_case

wishes = st.builds(
    Wish,
    st.integers(0, 2000) | st.integers(0, 40_000) | st.just(0),
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(0, 30),
)
services = st.builds(
    Service,
    st.lists(wishes, min_size=1, max_size=6).map(
        lambda found: sorted(found, key=lambda w: w.comes)
    ),
    st.integers(1, 20),
    st.frozensets(st.integers(0, 12), max_size=3),
    st.just(0) | st.integers(0, 900),
    st.just(0) | st.integers(0, 1500),
)


def agree_on_service(case: Case, service: Service) -> None:
    case = without_foresight(case)
    case = replace(case, config=replace(case.config, stream_from=service.budget % 7))
    assume(not any(layer.stack == "encoder" for layer in case.model.layers))
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    all_agree(theirs, case, reference_server(case, service))


@given(cases() | cases(prompts=True), services)
def test_passes_hold_answers_and_prompts(case: Case, service: Service) -> None:
    agree_on_service(case, service)


@few
@given(prefetching_cases(), services)
def test_so_do_those_with_prefetches(case: Case, service: Service) -> None:
    agree_on_service(case, service)


@few
@given(cases(), st.sampled_from(QUICK), services)
def test_so_do_those_that_are_decided_at_once(case: Case, policy: str, service: Service) -> None:
    theirs = decided_at_once(engine_case(case), policy)
    assume(not theirs.policy.looks_ahead and not theirs.model.has_encoder)
    theirs = replace(theirs, scheduler=server(theirs, service))
    assert_same(run_replay(theirs), run_des(theirs))


@st.composite
def captured(draw: st.DrawFn, case: Case) -> Case:
    """What is captured of which passes; all of one where nothing waits for copies or the host."""
    config = case.config
    free = config.slots is None and (config.gpus == 1 or config.decide == "device")
    free = free and config.kernels != "serial" and not config.agrees
    ways = ["eager", "piecewise", "splits", *["graph"] * 3 * free]
    decode, others = draw(st.sampled_from(ways)), draw(st.sampled_from(ways[:3]))
    most = draw(st.sampled_from([1, 3, 6, 8, 9, 17, 300]))
    chosen = replace(config, execution="eager", captured=(decode, others, most))
    return replace(case, config=chosen)


CAPTURED = (cases() | cases(prompts=True)).flatmap(captured)


@few
@given(CAPTURED, services)
def test_passes_are_captured_by_their_kind_and_size(case: Case, service: Service) -> None:
    agree_on_service(case, service)


@few
@given(prefetching_cases().flatmap(captured), services)
def test_so_are_those_with_prefetches(case: Case, service: Service) -> None:
    agree_on_service(case, service)


@few
@given(CAPTURED, st.sampled_from(QUICK), services)
def test_so_are_those_that_are_decided_at_once(case: Case, policy: str, service: Service) -> None:
    theirs = decided_at_once(engine_case(case), policy)
    assume(not theirs.policy.looks_ahead and not theirs.model.has_encoder)
    theirs = replace(theirs, scheduler=server(theirs, service))
    assert_same(run_replay(theirs), run_des(theirs))


SERVICE = Service([Wish(0, 3, 3, 0), Wish(1, 4, 2, 0)], 4)
PRICES = ToyPrices(base=10, token=1, context=1)


def small(service: Service = SERVICE) -> tuple[Case, Service]:
    trace, model = scene([[0, 1], [1, 2], [0, 2]], 3)
    return Case(trace, model, Config(), PRICES), service


def test_by_hand() -> None:
    """A prompt of 3; its first answer beside 3 of the prompt that has come meanwhile; its second
    beside the rest of that; then the other one decodes.
    """
    case, service = small()
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    outcome = run_des(theirs, check=True)
    played = replace(theirs, schedule=outcome.schedule)
    steps = steps_table(played, outcome)
    assert steps["phase"].tolist() == ["prefill", "mixed", "mixed", "decode"]
    assert steps["tokens"].tolist() == [3, 4, 2, 1]
    assert steps["decode_tokens"].tolist() == [0, 1, 1, 1]
    requests = per_request(played, outcome)
    assert requests["request_id"].tolist() == [0, 1]
    assert requests["tokens"].tolist() == [3, 2]
    ends = steps["end_ns"].tolist()
    assert requests["first_ns"].tolist() == [ends[0], ends[2]]
    assert requests["last_ns"].tolist() == [ends[2], ends[3]]
    ttft = requests_table(played, outcome)["ttft_ms"] * 1e6
    assert ttft.round().tolist() == [ends[0], ends[2] - ends[0]]
    # the second pass: 4 tokens; keys 4 and 1 + 2 + 3, read 4 and 3; of these 1, 4 and 4 are decoded
    attention = 10 + 4 + 2 * (4 + 6) + (4 + 3) + 3 * 1 + 4 * 4 + 5 * 4
    head = 5 * 10 + 2 * 0 + 1 * 1 + 1  # one token has logits: the one that is decoded
    sampling = 10 // 2 + 3 * 1
    assert outcome.charges[1, 0, 0] == attention + head + sampling


def test_what_a_prompt_pushes_out_by_hand() -> None:
    """Two slots. After a prompt of expert 0 its answer needs 1 beside a prompt's 2 and 1, and 2
    takes the slot of 0: so that the answer misses 0. That pushes out 1, whose miss is no prompt's.
    """
    trace, model = scene([[0], [1], [0], [1], [2], [1]], 3)
    service = Service([Wish(0, 1, 4, 0), Wish(1, 2, 1, 4)], 4)
    case = Case(trace, model, Config(slots=2), PRICES)
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    outcome = run_des(theirs, check=True)
    steps = steps_table(replace(theirs, schedule=outcome.schedule), outcome)
    assert steps["phase"].tolist() == ["prefill", "mixed", "decode", "decode"]
    assert steps["prompt_misses"].tolist() == [1, 1, 0, 0]
    assert steps["both_misses"].tolist() == [0, 1, 0, 0]
    assert steps["decode_misses"].tolist() == [0, 0, 1, 1]
    assert steps["decode_misses_caused_by_prompts"].tolist() == [0, 0, 1, 0]
    all_agree(theirs, case, reference_server(case, service))


def around_by_hand(**choices: Any) -> tuple[list[int], list[int], list[int]]:
    """Two slots. A prompt of 0; its answer needs 1 beside a prompt's 2 and 1; then 0; then 1."""
    trace, model = scene([[0], [1], [0], [1], [2], [1]], 3)
    service = Service([Wish(0, 1, 4, 0), Wish(1, 2, 1, 4)], 4)
    case = Case(trace, model, Config(slots=2, **choices), PRICES)
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    outcome = run_des(theirs, check=True)
    steps = steps_table(replace(theirs, schedule=outcome.schedule), outcome)
    all_agree(theirs, case, reference_server(case, service))
    size = model.bytes_in(0)
    return steps["hits"].tolist(), steps["misses"].tolist(), (steps["bytes_h2d"] // size).tolist()


def test_prompts_around_the_caches_in_a_mixed_pass_by_hand() -> None:
    """The first prompt's 0 and the other's 2 pass by; 1, which the answer needs, too, takes a slot,
    and so does 0 for the answer: 1 is still there.
    """
    hits, misses, copies = around_by_hand(prefill="bypass")
    assert (hits, misses, copies) == ([0, 0, 0, 1], [1, 2, 1, 0], [1, 2, 1, 0])


def test_prompts_that_stream_from_two_tokens_on_by_hand() -> None:
    """The mixed pass copies the whole layer and leaves the slots empty; a short prompt does not."""
    hits, misses, copies = around_by_hand(prefill="stream", stream_from=2)
    assert (hits, misses, copies) == ([0, 0, 0, 0], [1, 2, 1, 1], [1, 3, 1, 1])


SIMPLE = ["lru", "lfu", "fifo", "lifo", "random"]


@few
@given(
    cases() | cases(prompts=True),
    services,
    st.sampled_from(SIMPLE),
    st.lists(st.integers(-2, 3), min_size=1, max_size=5),
)
def test_slots_come_and_go_between_passes(
    case: Case, service: Service, policy: str, given: list[int]
) -> None:
    config = case.config
    least = min(config.slots_of(m) or 0 for m in range(len(case.model.moe_layers)))
    assume(least > 0 and not any(layer.stack == "encoder" for layer in case.model.layers))
    order = "id" if config.order == "least_makespan" else config.order  # which is of streams alone
    config = replace(config, policy=policy, parameters={}, first_part=0.25, order=order)
    case = replace(case, config=replace(config, exchanges=True))
    service = replace(service, given=tuple(min(one, least - 1) for one in given))
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    all_agree(theirs, case, reference_server(case, service))


def test_a_slot_goes_and_comes_back_by_hand() -> None:
    """Three slots hold 0, 1 and 2 after a prompt. One is given up for the two passes that follow: 0
    goes, which was used longest ago, and comes back in the place of 1. Then the slot is there
    again, and empty: 1 comes in, and 0 stays.
    """
    trace, model = scene([[0, 1, 2], [2], [0], [1], [0]], 4)
    service = Service([Wish(0, 1, 5, 0)], 4, given=(0, 1, 1, 0, 0))
    case = Case(trace, model, Config(slots=3, exchanges=True), PRICES)
    assert hits_and_misses(case, service) == ([0, 1, 0, 0, 1], [3, 0, 1, 1, 0])


def test_a_slot_goes_of_a_layer_that_has_all_its_experts_by_hand() -> None:
    """All three are there at first. 0, which was used longest ago, goes with its slot, and comes
    back when the slot is there again: nothing else goes.
    """
    trace, model = scene([[0, 1, 2], [2], [0], [1], [2]], 3)
    service = Service([Wish(0, 1, 5, 0)], 4, given=(0, 1, 0, 0, 0))
    case = Case(trace, model, Config(slots=3, exchanges=True), PRICES)
    assert hits_and_misses(case, service) == ([3, 1, 0, 1, 1], [0, 0, 1, 0, 0])


def test_layers_that_have_all_their_experts_for_a_while_stream_by_hand() -> None:
    """GPU 1 has room for its one expert of three, GPU 0 for one of two. Slots may go on both, and
    so the prompts of both copy the layer, 2 experts and 1; then GPU 0 misses, and GPU 1 hits.
    """
    trace, model = scene([[0], [2], [0], [2]], 3)
    service = Service([Wish(0, 1, 2, 0), Wish(0, 1, 2, 1)], 4, given=(0,))
    config = Config(slots=1, gpus=2, prefill="stream", exchanges=True)
    assert hits_and_misses(Case(trace, model, config, PRICES), service) == ([0, 1], [2, 1])


def hits_and_misses(case: Case, service: Service) -> tuple[list[int], list[int]]:
    """By step, where the engines and the reference agree."""
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    outcome = run_des(theirs, check=True)
    steps = steps_table(replace(theirs, schedule=outcome.schedule), outcome)
    all_agree(theirs, case, reference_server(case, service))
    return steps["hits"].tolist(), steps["misses"].tolist()


def test_a_pass_without_logits_has_no_head() -> None:
    case, service = small(Service([Wish(0, 6, 1, 0)], 4))
    theirs = engine_case(case)
    outcome = run_des(replace(theirs, scheduler=server(theirs, service)), check=True)
    # 4 tokens, of which each reads those before; then 2 more, the head of one, and its choice
    first, second = 10 + 4 + 2 * 10 + 4, 10 + 2 + 2 * 11 + 6 + 5 * 10 + 1 + 1 + 5 + 3
    assert outcome.charges[:, 0, 0].tolist() == [first, second]


def test_sizes_that_are_captured() -> None:
    sizes = Captured("graph", "piecewise").sizes.tolist()
    assert sizes[:5] == [1, 2, 4, 8, 16]
    assert sizes[32:37] == [240, 248, 256, 272, 288]
    assert sizes[-1] == 512
    assert len(sizes) == 3 + 31 + 17
    assert Captured("graph", "piecewise", 6).sizes.tolist() == [1, 2, 4, 6]


def test_padding_by_hand() -> None:
    """Products and router of the captured size; scores, experts and head of the tokens alone."""
    case, _ = small(Service([Wish(0, 1, 2, 0)] * 3, 8))
    chosen = replace(case.config, captured=("graph", "eager", 8))
    theirs = engine_case(replace(case, config=chosen))
    service = Service([Wish(0, 1, 2, 0)] * 3, 8)
    outcome = run_des(replace(theirs, scheduler=server(theirs, service)), check=True)
    attention = 10 + 4 + 2 * 6 + 6 + 6 * 1  # 3 tokens, one of padding; two keys each
    assert outcome.charges[1, 0, 0] == attention + (5 * 10 + 3 + 1) + (10 // 2 + 3 * 3)
    permute = 10 // 2 + 6 + 6 // 5  # of the rows that there are
    assert outcome.charges[1, 0, 1] == 10 + 4 + 4 // 3 + permute


def test_waiting_for_the_scheduler_is_the_hosts_and_for_a_request_nobodys() -> None:
    case, _ = small()
    theirs = engine_case(case)
    service = Service([Wish(0, 3, 1, 0), Wish(10_000, 3, 1, 0)], 8, lag=400, host=300)
    outcome = run_des(replace(theirs, scheduler=server(theirs, service)), check=True)
    host = CHARGES.index("host")
    plain = run_des(replace(theirs, scheduler=server(theirs, SERVICE)))
    assert plain.charges[:, 0, host].tolist() == [0, 0, 0, 0]
    assert outcome.charges[:, 0, host].tolist() == [300, 300]
    assert outcome.starts.tolist() == [[100], [10_100]]
    assert (outcome.ends - outcome.starts == outcome.charges.sum(axis=2)).all()


@given(services)
def test_tokens_of_passes_are_those_of_requests(service: Service) -> None:
    """Without anything forgotten: each prompt and all answers but the last are computed once."""
    service = replace(service, forgets=frozenset())
    case, _ = small()
    theirs = engine_case(case)
    outcome = run_replay(replace(theirs, scheduler=server(theirs, service)))
    schedule = outcome.schedule
    assert schedule.served is not None
    wished = sum(wish.prompt + wish.answers - 1 for wish in service.wishes)
    assert len(schedule.rows) == wished
    assert int(schedule.served.outputs.sum()) == sum(wish.answers for wish in service.wishes)
    assert int(schedule.answer_tokens().sum()) == sum(wish.answers for wish in service.wishes)
    assert int(schedule.decode_tokens().sum()) == sum(w.answers - 1 for w in service.wishes)


def test_what_is_said_of_some_passes_is_said_of_all() -> None:
    case, _ = small()
    theirs = engine_case(case)

    def passes() -> Passes:
        served = Served(np.array([0]), np.array([False]), np.array([True]))
        one = (np.array([0]), np.array([0]), np.array([0]))
        yield Schedule.serving(np.array([0, 1]), one, served)
        yield theirs.schedule.between(0, 1)

    for run in (run_des, run_replay):
        with pytest.raises(InputError, match="of some of its passes where tokens stand"):
            run(replace(theirs, scheduler=passes))


def test_draws_go_on() -> None:
    case, service = small()
    theirs = replace(engine_case(case), policy=policies.get("random")())
    theirs = replace(theirs, scheduler=server(theirs, service))
    assert_same(run_replay(theirs), run_des(theirs))
