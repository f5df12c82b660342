"""Schedules that are worked out by hand, in the package and in the judge alike. A step takes 5 ns
and 2 ns a token.
"""

from __future__ import annotations

import pytest

from tests.reference.judge_serving import Settings
from tests.reference.serving_cases import ServingCase, Wish
from tests.reference.test_serving_scheduler import check, judged, play, told


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
