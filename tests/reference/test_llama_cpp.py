"""llama.cpp's rules, plain and compiled, and runs by them, against a judge that shares nothing
with them: tokens come with the last pass of their batch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.merged import merged
from moesim.engine.replay.foreseen import is_foreseen
from moesim.engine.replay.run import run_replay
from moesim.engine.replicas import play_replicas
from moesim.metrics.served import ServedRun
from moesim.workload.serving.fleets.fleet import Fleet, Routed
from moesim.workload.serving.llama_cpp import LlamaCpp
from moesim.workload.serving.stepping.steps import filled_with

from . import fleets
from .agreement import assert_same
from .judge_llama_cpp import LlamaCpp as Server
from .judge_llama_cpp import Slots
from .judge_replicas import Replicas
from .judge_serving import Settings
from .prices import ToyPrices
from .reference_words import Config
from .scenes import scene
from .served_by_vllm import reference_scheduler, served_by_vllm, serving_of
from .serving_cases import DRAWN, ServingCase, Wish, asked_of, judge_of, room_of, times_of
from .strategies import Case, few
from .test_foreseen import ended, foreseeing
from .test_foreseen import steps_of as states_of
from .test_replicas import in_order, routed_of, toy
from .test_scheduler import all_agree
from .test_serving_scheduler import check, judged
from .wiring import engine_case


@st.composite
def slots(draw: st.DrawFn) -> Slots:
    """Batches of one pass, and of many."""
    number = draw(st.integers(1, 4))
    physical = draw(st.integers(number, 8))
    return Slots(
        number, draw(st.sampled_from([physical, 16, 40])), physical,
        draw(st.booleans()), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


def llama_cpp_of(drawn: Slots, *, late: bool) -> LlamaCpp:
    return LlamaCpp(
        max_num_seqs=drawn.number,
        n_batch=drawn.batch,
        n_ubatch=drawn.physical,
        kv_unified=drawn.unified,
        recurrent=drawn.recurrent,
        checkpoints=drawn.checkpoints,
        async_scheduling=late,
    )


@st.composite
def of_llama_cpp(draw: st.DrawFn, cases: st.SearchStrategy[ServingCase] = DRAWN) -> ServingCase:
    return replace(draw(cases), settings=Settings(late=draw(st.booleans())))


def server_of(case: ServingCase, drawn: Slots) -> Server:
    plain = judge_of(case)
    return Server(plain.requests, replace(plain.settings, budget=drawn.physical), drawn)


def agrees(case: ServingCase, drawn: Slots, *, plain: bool) -> None:
    scheduler = llama_cpp_of(drawn, late=case.settings.late)
    check(case, plain=plain, scheduler=scheduler, judge=server_of(case, drawn))


@settings(max_examples=300)
@given(case=of_llama_cpp(), drawn=slots())
def test_the_rules_decide_as_the_judge_does(case: ServingCase, drawn: Slots) -> None:
    agrees(case, drawn, plain=True)


@given(case=of_llama_cpp(), drawn=slots())
def test_so_do_the_compiled_rules(case: ServingCase, drawn: Slots) -> None:
    agrees(case, drawn, plain=False)


def run_of(
    case: Case, serving: ServingCase, drawn: Slots, routed: Routed | None = None
) -> EngineCase:
    theirs, scheduler = engine_case(case), llama_cpp_of(drawn, late=serving.settings.late)
    served = replace(serving_of(theirs, serving), scheduler=scheduler, routed=routed)
    return replace(theirs, scheduler=served.passes, serving=served)


def serve(case: Case, serving: ServingCase, drawn: Slots) -> ServedRun:
    """Plays the case in both engines and the reference; each token comes when the judge says."""
    theirs, judge = run_of(case, serving, drawn), server_of(serving, drawn)
    all_agree(theirs, case, reference_scheduler(case, serving, judge))
    outcome = run_des(theirs)
    run = ServedRun.of(replace(theirs, schedule=outcome.schedule), outcome)
    said = [request.said for request in judge.requests]
    assert run.visible_ns.tolist() == [instant for one in said for instant in one]
    assert run.outputs.tolist() == [len(one) for one in said]
    return run


@few
@given(served_by_vllm(), slots(), st.booleans())
def test_both_engines_and_the_reference_serve_alike(
    both: tuple[Case, ServingCase], drawn: Slots, late: bool
) -> None:
    case, serving = both
    serve(case, replace(serving, settings=Settings(late=late)), drawn)


def replicas_of(case: ServingCase, drawn: Slots, count: int, router: str) -> Replicas:
    judge, make = server_of(case, drawn), partial(Server, slots=drawn)
    return Replicas(judge.requests, judge.settings, count, (router, 0), 1, make)


@settings(max_examples=100)
@given(of_llama_cpp(), slots(), st.integers(1, 3), st.booleans())
def test_replicas_decide_as_the_judges_do(
    case: ServingCase, drawn: Slots, count: int, plain: bool
) -> None:
    scheduler = llama_cpp_of(drawn, late=case.settings.late)
    fill = filled_with(scheduler.rule()) if plain else None
    routed = routed_of("least_outstanding", count, 0, 1)
    fleet = Fleet(asked_of(case), room_of(case), scheduler, routed, times_of(case), fill)
    judges = replicas_of(case, drawn, count, "least_outstanding")
    judges.run(toy)
    assert in_order(fleet) == judges.order


@few
@given(served_by_vllm(), slots(), st.sampled_from([1, 2, 64]), st.sampled_from([1, 50_000]))
def test_what_is_foreseen_is_des(
    both: tuple[Case, ServingCase], drawn: Slots, most: int, wild: int
) -> None:
    """Also that a batch goes on, or ends, in what does not hold."""
    case, serving = both
    serving = replace(serving, settings=Settings())
    foresees, asks = (run_of(case, serving, drawn) for _ in range(2))
    assume(is_foreseen(foresees))
    with foreseeing(most, wild):
        played = run_replay(foresees)
    assert_same(played, run_des(asks))
    assert states_of(ended(foresees)) == states_of(ended(asks))


@few
@given(served_by_vllm(), slots(), st.integers(1, 3))
def test_tokens_of_replicas_come_with_their_batches(
    both: tuple[Case, ServingCase], drawn: Slots, count: int
) -> None:
    """Of the run that they are together, as the judges of each say."""
    case, serving = both
    serving = replace(serving, settings=Settings())
    routed = routed_of("round_robin", count, 0, 1)
    theirs = run_of(case, serving, drawn, routed)
    outcomes, turns, after = play_replicas(theirs, run_replay)
    judges = replicas_of(serving, drawn, count, "round_robin")
    fleets.judged(case, serving, judges)
    run = ServedRun.of(*merged(after, outcomes, turns))
    every = [judges.replicas[judges.where[n]].judge.requests[n] for n in range(len(run.gpu))]
    assert run.visible_ns.tolist() == [instant for one in every for instant in one.said]


def test_two_prompts_of_one_batch_by_hand() -> None:
    """Prompts of 2 and of 3 tokens are a batch of passes of 4 and of 1, which take 13 and 7. The
    first one ends in the first pass: its token is there at 20 with the other one's, its slot is
    free then, and only then does the next request of the loop come, to that slot.
    """
    wishes = [Wish(3, 2, 0, 0, None, 0, 0, 0), Wish(2, 1, 0, 0, None, 0, 0, 0),
              Wish(4, 1, None, 0, None, 0, 0, 0)]  # fmt: skip
    serving = ServingCase(wishes, None, 4, loop=True, settings=Settings())
    drawn = Slots(2, 8, 4, unified=True)
    agrees(serving, drawn, plain=True)
    judge = judged(serving, server_of(serving, drawn))
    assert [entries for _, entries in judge.steps] == [
        [(1, 0, 2, 1), (0, 0, 2, 0)],
        [(0, 2, 1, 1)],
        [(0, 3, 1, 1), (2, 0, 3, 0)],
        [(2, 3, 1, 1)],
    ]
    assert [one.said for one in judge.requests] == [[20, 40], [20], [40]]
    assert judge.requests[2].arrival == 20
    case = Case(*scene([[0, 1], [1, 2], [0, 2]], 3), Config(), ToyPrices())
    run = serve(case, serving, drawn)
    assert run.of_pass.tolist() == [1, 3, 1, 3]
    assert run.prompts[run.of_pass].all()
