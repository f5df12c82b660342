"""Passes of many tokens copy what the CPU has: by hand, then both engines against the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay

from .agreement import assert_same, compare, observed
from .prices import ToyPrices
from .reference import reference
from .reference_words import Config, Software
from .scenes import scene
from .serving import Service
from .strategies import POLICIES, Case, cases, few, of_few_policies, ways
from .test_serving import agree_on_service, services
from .wiring import engine_case


def copying(case: Case, least: int) -> Case:
    """``case`` with slots for some experts; passes of ``least`` tokens copy the others."""
    case = of_few_policies(case, tuple(one for one in POLICIES if "cpu" in ways(one, Software())))
    slots = case.config.slots or max(1, case.model.experts // (2 * case.config.gpus))
    own: dict[str, Any] = {"miss": "cpu", "uploads": None, "near_memory": False, "prefill": "cache"}
    return replace(case, config=replace(case.config, slots=slots, copies_from=least, **own))


def agree(case: Case) -> None:
    theirs = engine_case(case)
    outcome = run_des(theirs, check=True)
    assert_same(run_replay(theirs), outcome)
    compare(reference(case.trace, case.model, case.config, case.prices), observed(theirs, outcome))


@few
@given(cases(), st.integers(1, 6))
def test_all_agree(case: Case, least: int) -> None:
    agree(copying(case, least))


@few
@given(cases(prompts=True), st.integers(1, 6))
def test_all_agree_with_prompts(case: Case, least: int) -> None:
    agree(copying(case, least))


@few
@given(cases(), services, st.integers(1, 6))
def test_all_agree_on_requests(case: Case, service: Service, least: int) -> None:
    agree_on_service(copying(case, least), service)


def test_a_pass_of_few_tokens_is_the_hosts_and_one_of_many_copies() -> None:
    """Step 0 has a token of each of two requests, step 1 one. Expert 0 is resident, and stays."""
    trace, model = scene([[0, 1], [2, 1], [0, 2]], 3)
    trace["request_id"], trace["position"] = [0, 0, 1], [0, 1, 0]
    found = []
    for least in (1, 2, 3):
        config = Config(batch_size=2, slots=1, initial="lowest_ids", miss="cpu", copies_from=least)
        case = Case(trace, model, config, ToyPrices())
        verdict = reference(trace, model, config, case.prices)
        compare(verdict, observed(engine_case(case), run_des(engine_case(case), check=True)))
        found.append([(one.step, one.expert, one.place) for one in verdict.activations])
    needs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
    places = [
        ["", "load", "load", "load", "load"],
        ["", "load", "load", "host", "host"],
        ["", "host", "host", "host", "host"],
    ]
    assert found == [[(*at, place) for at, place in zip(needs, of, strict=True)] for of in places]
