"""TensorRT-LLM's rules, plain and compiled, and runs by them, against a judge that shares nothing
with them.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.workload.serving.trtllm import AttentionDp, Trtllm

from .judge_serving import Settings
from .judge_trtllm import TensorRt, Waits
from .served_by_vllm import reference_scheduler, served_by_vllm, serving_of
from .serving_cases import DRAWN, ServingCase, Wish, judge_of
from .strategies import Case, few
from .test_scheduler import all_agree
from .test_serving_scheduler import check, judged, play
from .wiring import engine_case

WAITS = st.builds(Waits, st.booleans(), st.integers(0, 5), st.integers(0, 3))


@st.composite
def of_trtllm(draw: st.DrawFn, cases: st.SearchStrategy[ServingCase] = DRAWN) -> ServingCase:
    case, chunked = draw(cases), draw(st.booleans())
    chosen = Settings(
        budget=draw(st.integers(1 if chunked else 18, 24)),
        most=draw(st.integers(1, 5)),
        chunked=chunked,
        late=draw(st.booleans()),
        round_robin=draw(st.booleans()),
    )
    return replace(case, settings=chosen)


def trtllm_of(case: ServingCase, waits: Waits) -> Trtllm:
    chosen = case.settings
    return Trtllm(
        max_num_tokens=chosen.budget,
        max_num_seqs=chosen.most,
        enable_chunked_context=chosen.chunked,
        async_scheduling=chosen.late,
        data_parallel="round_robin" if chosen.round_robin else "least_loaded",
        attention_dp_config=AttentionDp(
            enable_balance=waits.balances,
            timeout_iters=waits.timeout,
            batching_wait_iters=waits.more,
        ),
    )


def judge_with(case: ServingCase, waits: Waits) -> TensorRt:
    plain = judge_of(case)
    return TensorRt(plain.requests, plain.settings, waits)


@settings(max_examples=300)
@given(case=of_trtllm(), waits=WAITS)
def test_the_rules_decide_as_the_judge_does(case: ServingCase, waits: Waits) -> None:
    check(case, plain=True, scheduler=trtllm_of(case, waits), judge=judge_with(case, waits))


@given(case=of_trtllm(), waits=WAITS)
def test_so_do_the_compiled_rules(case: ServingCase, waits: Waits) -> None:
    check(case, plain=False, scheduler=trtllm_of(case, waits), judge=judge_with(case, waits))


def serve(case: Case, serving: ServingCase, waits: Waits) -> None:
    """Plays the case in both engines and the reference."""
    theirs, scheduler = engine_case(case), trtllm_of(serving, waits)
    served = replace(serving_of(theirs, serving), scheduler=scheduler)
    theirs = replace(theirs, scheduler=served.passes, serving=served)
    all_agree(theirs, case, reference_scheduler(case, serving, judge_with(serving, waits)))


@few
@given(served_by_vllm(), WAITS, st.data())
def test_both_engines_and_the_reference_serve_alike(
    both: tuple[Case, ServingCase], waits: Waits, data: st.DataObject
) -> None:
    case, serving = both
    serve(case, data.draw(of_trtllm(st.just(serving))), waits)


def steps_of(waits: Waits, *wishes: tuple[int, int, int]) -> list[list[tuple[int, int]]]:
    """Two ranks, requests of (prompt, answer, instant) in turn; (request, tokens) of each step."""
    case = ServingCase([Wish(*one, 0, None, 0, 0, 0) for one in wishes], None, 4, ranks=2)
    case = replace(case, settings=Settings(round_robin=True, chunked=False))
    check(case, plain=True, scheduler=trtllm_of(case, waits), judge=judge_with(case, waits))
    assert play(case, plain=False, scheduler=trtllm_of(case, waits)) is not None
    steps = judged(case, judge_with(case, waits)).steps
    return [[(who, count) for who, _, count, _ in entries] for _, entries in steps]


def test_a_prompt_waits_until_the_other_rank_has_one_by_hand() -> None:
    """Both ranks begin at once, since none has an answer to go on with. A third request, of rank 0,
    comes in the first step, a fourth, of rank 1, in the third; a step takes 5 ns and 2 a token.
    """
    wishes = (4, 6, 0), (4, 6, 0), (3, 1, 1), (3, 1, 40)
    assert steps_of(Waits(balances=False, timeout=50, more=0), *wishes)[:2] == [
        [(0, 4), (1, 4)],
        [(0, 1), (2, 3), (1, 1)],
    ]
    both = [(0, 1), (2, 3), (1, 1), (3, 3)]
    held = steps_of(Waits(balances=True, timeout=50, more=0), *wishes)
    assert held[:5] == [
        [(0, 4), (1, 4)],
        [(0, 1), (1, 1)],
        [(0, 1), (1, 1)],
        [(0, 1), (1, 1)],
        both,
    ]
    longer = steps_of(Waits(balances=True, timeout=50, more=1), *wishes)
    assert longer.index(both) == 5


def test_no_prompt_waits_longer_than_it_may_by_hand() -> None:
    """Nobody comes to the other rank. Steps without a prompt on each count, so that the second and
    the third of them are the last that it waits for.
    """
    wishes = (4, 6, 0), (4, 6, 0), (3, 1, 1)
    held = steps_of(Waits(balances=True, timeout=3, more=0), *wishes)
    assert [(2, 3) in step for step in held[:5]] == [False, False, False, True, False]


def test_with_one_rank_no_prompt_waits() -> None:
    waits = Waits(balances=True, timeout=50, more=10)
    case = ServingCase([Wish(4, 3, 0, 0, None, 0, 0, 0), Wish(4, 3, 1, 0, None, 0, 0, 0)], None, 4)
    check(case, plain=True, scheduler=trtllm_of(case, waits), judge=judge_with(case, waits))
    steps = judged(case, judge_with(case, waits)).steps
    assert [who for who, *_ in steps[1][1]] == [0, 1]
