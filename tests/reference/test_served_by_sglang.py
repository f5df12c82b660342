"""Runs whose passes a scheduler like SGLang's decides as the clock goes: by both engines, to the
nanosecond, and with as many tokens for each client as it asked for, though some are lost.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.metrics.served import ServedRun
from moesim.workload.serving.fleets.fleet import Fleet
from moesim.workload.serving.sglang import Sglang
from moesim.workload.serving.state import DROPS, ENTRIES, GIVEN, OUTPUT

from .agreement import assert_same
from .judge_serving import Settings
from .prices import ToyPrices
from .reference_words import Config
from .scenes import scene
from .served_by_vllm import served_by_vllm, serving_of
from .serving_cases import ServingCase, Wish, asked_of, room_of
from .strategies import Case, few
from .test_replicas import in_order, routed_of
from .wiring import engine_case

SCHEDULERS = st.builds(
    Sglang,
    max_num_seqs=st.integers(1, 5),
    chunked_prefill_size=st.sampled_from([None, 4, 16]),
    enable_mixed_chunk=st.booleans(),
    schedule_policy=st.sampled_from(["fcfs", "lpm"]),
    schedule_conservativeness=st.sampled_from([0.0, 0.1, 1.0]),
    async_scheduling=st.booleans(),
)
WISHES = [Wish(3, 9, 0, 0, None, 0, 0, 0), Wish(3, 9, 1, 0, None, 0, 0, 0),
          Wish(2, 4, 2, 0, None, 0, 0, 0)]  # fmt: skip
TIGHT = ServingCase(WISHES, blocks=18, size=1)
EAGER = Sglang(schedule_conservativeness=0.0, max_num_seqs=4)


def run_of(case: Case, drawn: ServingCase, scheduler: Sglang) -> EngineCase:
    theirs = engine_case(case)
    plain = replace(drawn, settings=Settings())
    serving = replace(serving_of(theirs, plain), scheduler=scheduler)
    return replace(theirs, scheduler=serving.passes, serving=serving)


def entries_in(theirs: EngineCase) -> list[list[int]]:
    assert theirs.serving is not None
    assert theirs.serving.state is not None
    state = theirs.serving.state
    entries: list[list[int]] = state.log[:, : state.numbers[ENTRIES]].tolist()
    return entries


def agree(case: Case, drawn: ServingCase, scheduler: Sglang) -> ServedRun:
    """Plays the case in both engines; clients get what they asked for."""
    theirs, again = (run_of(case, drawn, scheduler) for _ in range(2))
    outcome = run_des(theirs, check=True)
    assert_same(run_replay(again), outcome)
    assert entries_in(theirs) == entries_in(again)
    run = ServedRun.of(replace(theirs, schedule=outcome.schedule), outcome)
    assert run.outputs[run.done].tolist() == [
        one.answer for one, done in zip(drawn.wishes, run.done, strict=True) if done
    ]
    return run


@few
@given(served_by_vllm(), SCHEDULERS)
def test_both_engines_serve_alike(both, scheduler):
    case, drawn = both
    agree(case, drawn, scheduler)


def test_no_client_gets_what_was_on_its_way_to_who_is_retracted():
    """The step has it, as others: it has logits, too."""
    case = Case(*scene([[0, 1], [0, 1]], 3), Config(slots=2), ToyPrices())
    run = agree(case, TIGHT, EAGER)
    assert run.state.log[DROPS, : run.state.numbers[ENTRIES]].sum() > 0


@pytest.mark.parametrize("loop", [False, True])
def test_nor_do_clients_of_replicas(loop):
    """In a closed loop the next request comes once all of the last one is there."""
    wishes = [
        replace(one, comes=0 if k < 6 or not loop else None) for k, one in enumerate(3 * WISHES)
    ]
    case = replace(TIGHT, wishes=wishes, loop=loop)
    fleet = Fleet(asked_of(case), room_of(case), EAGER, routed_of("round_robin", 2, 0, 1))
    in_order(fleet)
    assert sum(int(one.state.log[DROPS].sum()) for one in fleet.servers) > 0
    assert fleet.finished == len(wishes)
    for number, one in enumerate(fleet.servers):
        mine = fleet.replica == number
        assert (one.state.requests[GIVEN, mine] == one.state.requests[OUTPUT, mine]).all()
    assert fleet._given.tolist() == [one.answer for one in wishes]
