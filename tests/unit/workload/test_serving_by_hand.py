"""Schedules that are worked out by hand, in the package and in the judge alike. A step takes 5 ns
and 2 ns a token.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from moesim.engine.des.run import run_des
from moesim.workload.serving.state import LEFT, STEPS
from moesim.workload.speculation import Mtp, Ngram
from tests.reference.judge_serving import Settings
from tests.reference.prices import ToyPrices
from tests.reference.reference_words import Config
from tests.reference.scenes import scene
from tests.reference.served_by_vllm import reference_scheduler, serving_of
from tests.reference.serving_cases import ServingCase, Wish
from tests.reference.strategies import Case
from tests.reference.test_scheduler import all_agree
from tests.reference.test_serving_scheduler import check, judged, play, told
from tests.reference.wiring import engine_case


def step_ends(case):
    """Of each step the decision, (request, first token, tokens, gives) of its entries."""
    check(case, plain=True)
    state = play(case, plain=True)
    assert state is not None
    return told(state)


def wish(prompt, answer, comes=0, *, shares=0):
    return Wish(prompt, answer, comes, 0, None, 0, shares, 0)


def case_of(*wishes, size=16, **given):
    room = {key: given.pop(key) for key in ("ranks", "caches", "times") if key in given}
    if "chances" in given:
        given["drafts"] = len(given["chances"])
    blocks = given.pop("blocks", None)
    return ServingCase(list(wishes), blocks, size, settings=Settings(**given), **room)


def entries(case):
    return [of for _, of in step_ends(case)]


def test_a_one_request_in_chunks_of_four():
    """10 prompt tokens in 4 + 4 + 2, then one by one; steps of 13, 13, 9, 7 ns."""
    found = step_ends(case_of(wish(10, 3), budget=4))
    assert found == [
        (0, [(0, 0, 4, False)]),
        (13, [(0, 4, 4, False)]),
        (26, [(0, 8, 2, True)]),
        (35, [(0, 10, 1, True)]),
        (42, [(0, 11, 1, True)]),
    ]


@pytest.mark.parametrize(("comes", "joins"), [(5, 1), (13, 1), (14, 2)])
def test_b_a_request_joins_the_first_step_decided_after_it_came(comes, joins):
    """The first step is from 0 to 13: one that comes inside it, or at its very end, is in the
    second; one that comes a nanosecond later in the third.
    """
    found = entries(case_of(wish(4, 4), wish(2, 1, comes)))
    assert [1 in [who for who, *_ in of] for of in found].index(True) == joins


def test_c_decode_tokens_come_first_and_prompts_get_the_rest():
    """Budget 5: request 0 decodes one token, request 1 has the other four of its prompt."""
    found = entries(case_of(wish(3, 3), wish(9, 1), budget=5))
    assert found == [
        [(0, 0, 3, True), (1, 0, 2, False)],
        [(0, 3, 1, True), (1, 2, 4, False)],
        [(0, 4, 1, True), (1, 6, 3, True)],
    ]


def test_d_the_youngest_is_preempted_and_computes_prompt_and_answer_again():
    """3 blocks of 2: both requests hold one, request 0 takes the third for its third token, and
    request 1 finds none for its own. It goes, and comes back when request 0 has ended.
    """
    case = case_of(wish(2, 3), wish(2, 3), blocks=3, size=2, whole=True)
    found = entries(case)
    assert found == [
        [(0, 0, 2, True), (1, 0, 2, True)],
        [(0, 2, 1, True)],
        [(0, 3, 1, True)],
        [(1, 0, 3, True)],
        [(1, 3, 1, True)],
    ]
    judge = judged(case)
    assert judge.requests[1].preemptions == 1
    assert judge.recomputed == 2
    assert judge.requests[1].given == 3


@pytest.mark.parametrize(("whole", "second"), [(True, []), (False, [(1, 0, 2, False)])])
def test_e_a_prompt_that_does_not_fit_whole_holds_back_what_is_behind_it(whole, second):
    """4 blocks of 2, budget 4: request 0 has two, and request 1 needs four; its first chunk would
    fit. Request 2, which needs one, waits behind it.
    """
    case = case_of(wish(2, 2), wish(8, 1), wish(1, 1), blocks=4, size=2, budget=4, whole=whole)
    first = entries(case)[0]
    assert first == [(0, 0, 2, True), *second]


def test_f_a_prefix_of_two_blocks_is_found():
    """Blocks of 2: request 1 comes when request 0 has ended, and begins with its four tokens."""
    found = entries(case_of(wish(5, 1, shares=2), wish(6, 1, 100, shares=2), size=2, caches=True))
    assert found == [[(0, 0, 5, True)], [(1, 4, 2, True)]]


def test_f_a_hit_on_all_tokens_computes_the_last_block_again():
    found = entries(case_of(wish(4, 1, shares=2), wish(4, 1, 100, shares=2), size=2, caches=True))
    assert found == [[(0, 0, 4, True)], [(1, 2, 2, True)]]


def test_f_of_a_prefix_its_tail_is_forgotten_first():
    """4 blocks of 2: request 0 leaves two full blocks behind, the last one freed first. Request 1
    takes the two that nothing is in and then the tail, so that request 2 finds the head alone.
    """
    case = case_of(
        wish(4, 1, shares=2), wish(6, 1, 100), wish(5, 1, 200, shares=2),
        blocks=4, size=2, caches=True,
    )  # fmt: skip
    assert entries(case)[2] == [(2, 2, 3, True)]


def test_g_asynchronous_scheduling_sees_an_end_one_step_late():
    """Two may run. Request 1 has its last token at the end of step 1, so that step 2 can have
    request 2; asynchronously that end is not known yet when step 2 is decided, at the end of step
    0, and request 0 decodes alone.
    """
    late, at_once = (
        step_ends(case_of(wish(2, 4), wish(2, 2), wish(2, 1), most=2, late=late))
        for late in (True, False)
    )
    assert [[who for who, *_ in of] for _, of in at_once] == [[0, 1], [0, 1], [0, 2], [0]]
    assert [[who for who, *_ in of] for _, of in late] == [[0, 1], [0, 1], [0], [0, 2]]
    assert [now for now, _ in at_once] == [0, 13, 22, 33]
    assert [now for now, _ in late] == [0, 0, 13, 22]


def test_h_two_ranks_of_which_one_is_idle():
    """Requests go to the rank with less to do; a step goes on with the other rank alone."""
    case = case_of(wish(3, 1), wish(2, 3), ranks=2)
    found = entries(case)
    assert found == [
        [(0, 0, 3, True), (1, 0, 2, True)],
        [(1, 2, 1, True)],
        [(1, 3, 1, True)],
    ]
    assert [one.rank for one in judged(case).requests] == [0, 1]


@pytest.mark.parametrize(
    ("late", "free"),
    [(False, [10, 8, 8, 6, 7, 5, 6, 4]), (True, [10, 8, 8, 6, 6, 5, 5, 4])],
)
def test_l_blocks_behind_a_window_are_free_once_no_step_in_flight_reads_them(late, free):
    """12 blocks of 2, which layers that keep all and layers that see 4 tokens share. From 2 tokens
    on both take a block every other step. The first token that leaves a block behind is that at 5,
    which is to come in step 4: asynchronously step 3 is in flight then, and reads it.
    """
    case = case_of(wish(2, 8), blocks=12, size=2, windows=(4, None), late=late)
    check(case, plain=True)
    for plain in (True, False):
        state = play(case, plain=plain)
        assert state is not None
        assert state.steps[LEFT, : state.numbers[STEPS]].tolist() == free


def test_l_a_prefix_is_found_where_a_window_was_kept():
    """Blocks of 2, of a window of 4 the two before a prompt's last token: of 7 tokens those of 2 to
    5. Request 1 shares the first 4, whose first block is not kept, and finds nothing; but these 4
    are kept from then on, so that request 2 does. Request 3 has the prompt of request 0.
    """
    comes = enumerate((3, 2, 2, 3))
    wishes = [wish(7, 1, 100 * number, shares=shares) for number, shares in comes]
    found = entries(case_of(*wishes, size=2, caches=True, windows=(4, None)))
    assert found == [
        [(0, 0, 7, True)], [(1, 0, 7, True)], [(2, 4, 3, True)], [(3, 6, 1, True)],
    ]  # fmt: skip


def test_l_a_prompt_has_room_if_its_window_does():
    """Prompts of 20 tokens in pieces of 4, 10 blocks of 2 each in layers that keep all, and at most
    5 in those that see 4: with 15 blocks they run, with 14 nothing does.
    """
    case = case_of(wish(20, 1), blocks=15, size=2, windows=(4, None), budget=4)
    assert [count for ((_, _, count, _),) in entries(case)] == [4] * 5
    assert play(replace(case, blocks=14), plain=True) is None


def test_m_a_prompt_stops_where_its_state_is_kept_and_others_wait_for_it():
    """Blocks of 4: of a prompt of 10 tokens the state behind the first 8 is kept. It stops there,
    but where that is kept inside a step. Request 1 has the same 8 tokens, and waits a step.
    """
    wishes = [wish(10, 1, shares=2), wish(10, 1, shares=2)]
    case = case_of(*wishes, size=4, caches=True, windows=("state", None))
    assert entries(case) == [[(0, 0, 8, False)], [(0, 8, 2, True), (1, 8, 2, True)]]
    inside = replace(case, settings=replace(case.settings, inside=True))
    assert entries(inside) == [[(0, 0, 10, True)], [(1, 8, 2, True)]]


def test_m_a_state_is_a_block_and_two_where_a_step_leaves_the_old_one():
    """20 blocks of 2. The prompt's first two tokens take one, and one for the state behind them,
    its third two more. The old state's is free once the next token is decided, and every other
    token takes two again. Without prefixes the state has one block, whatever comes.
    """
    case = case_of(wish(3, 5), blocks=20, size=2, caches=True, windows=("state", None))
    whole = replace(case, caches=False, settings=replace(case.settings, windows=("spare", None)))
    for one, free in ((case, [18, 16, 17, 15, 16, 14]), (whole, [17, 17, 16, 16, 15])):
        check(one, plain=True)
        state = play(one, plain=True)
        assert state is not None
        assert state.steps[LEFT, : state.numbers[STEPS]].tolist() == free


def test_k_drafts_that_are_right_are_tokens_of_the_answer():
    """The prompt gives one token; the next step has it and two drafts, all right; the last two
    tokens are one that is known and a draft: the answer's sixth is in no pass.
    """
    found = step_ends(case_of(wish(3, 6), chances=(1.0, 1.0)))
    assert found == [(0, [(0, 0, 3, 1)]), (11, [(0, 3, 3, 3)]), (22, [(0, 6, 2, 2)])]


def test_k_behind_a_draft_that_is_wrong_its_place_is_computed_again():
    """The first of two drafts is right, the second never: each step keeps two of its three tokens,
    and the next begins where the wrong one was.
    """
    case = case_of(wish(3, 6), chances=(1.0, 0.0))
    assert entries(case) == [[(0, 0, 3, 1)], [(0, 3, 3, 2)], [(0, 5, 3, 2)], [(0, 7, 1, 1)]]
    assert judged(case).recomputed == 0


def test_k_what_is_left_of_the_budget_cuts_drafts():
    """Budget 4: request 0 has three tokens, and of request 1, whose three are due, one."""
    found = entries(case_of(wish(1, 5), wish(1, 5), budget=4, chances=(1.0, 1.0)))
    assert found[1] == [(0, 1, 3, 3), (1, 1, 1, 1)]


@pytest.mark.parametrize(("comes", "step", "begins"), [(9, 1, 2), (10, 2, 6)])
def test_k_a_block_is_found_once_its_drafts_are_known_to_be_right(comes, step, begins):
    """Blocks of 2. Step 1, at 9, computes tokens 2 to 4, of which the last two are drafts: block 1
    is not found yet; at step 2, at 20, blocks 1 and 2 are, since they were right.
    """
    first, second = wish(2, 6, shares=3), wish(7, 1, comes, shares=3)
    found = entries(case_of(first, second, size=2, caches=True, chances=(1.0, 1.0)))
    assert found[step][1] == (1, begins, 7 - begins, 1)


def test_k_verified_tokens_share_an_expert():
    """Two rows of experts 0, 1 and 1, 2 in a pass: three experts, one of them with two rows."""
    trace, model = scene([[0, 2], [0, 1], [1, 2]], 3)
    case = Case(trace, model, Config(), ToyPrices(base=10, token=1, context=1))
    serving = case_of(wish(1, 3), chances=(1.0,))
    theirs = engine_case(case)
    served = serving_of(theirs, serving)
    theirs = replace(theirs, scheduler=served.passes, serving=served)
    outcome = run_des(theirs, check=True)
    assert outcome.counts.activations[:, 0, 0].tolist() == [2, 3]
    assert outcome.counts.kept_rows[:, 0, 0].tolist() == [2, 4]
    schedule = outcome.schedule
    assert schedule.answer_tokens().tolist() == [1, 2]
    # attention of 2 tokens after 1: keys 2 + 3, of which the last reads all 3; logits; their choice
    assert outcome.charges[1, 0, 0] == 10 + 2 + 2 * 5 + 3 + 5 * 10 + 2 + 1 + 10 // 2 + 3 * 2
    all_agree(theirs, case, reference_scheduler(case, serving))


def test_k_what_drafts_keeps_blocks_for_its_own_tokens():
    kinds = (Ngram(num_speculative_tokens=3), Mtp(num_speculative_tokens=3))
    assert [kind.look_ahead for kind in kinds] == [0, 3]


@pytest.mark.parametrize("by_prefix", [False, True])
def test_a_rank_that_has_the_prompt_cached_gets_the_request(by_prefix):
    """Blocks of 2, two ranks: request 0 leaves its prompt on the first. Request 1 comes when both
    are empty, and would go to the second, whose turn it is.
    """
    first, second = wish(5, 1, shares=2), wish(6, 1, 100, shares=2)
    case = case_of(first, second, size=2, caches=True, ranks=2, by_prefix=by_prefix)
    found = entries(case)
    assert found[1] == [(1, 4, 2, 1) if by_prefix else (1, 0, 6, 1)]
    assert [one.rank for one in judged(case).requests] == [0, 0 if by_prefix else 1]
