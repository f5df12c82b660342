"""Schedules of the schedulers that are not vLLM's, worked out by hand. Steps take 3 ns and 1 ns an
entry of the host before, 1 ns a token, and 2 ns and 1 ns an entry after.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from moesim.config.amounts.sizes import GIB
from moesim.testing.schedulers import keeps_the_laws
from moesim.workload.serving import registry
from moesim.workload.serving.sglang import Sglang
from moesim.workload.serving.state import (
    BEGIN,
    DROPS,
    ENTRIES,
    NEVER,
    PREEMPTED,
    REJECTED,
    STATUS,
    STEPS,
    Room,
)
from tests.reference.serving_cases import ServingCase, Wish, asked_of


def played(kind: str, *wishes: tuple[int, int, int], blocks: int | None = None, **given: Any):
    """Requests of (prompt, answer, instant); blocks of one token."""
    case = ServingCase([Wish(*one, 0, None, 0, 0, 0) for one in wishes], blocks, 1)
    scheduler = registry.get(kind)(**{"async_scheduling": False, **given})
    room = Room(blocks=blocks, block_size=1, longest=NEVER)
    state = keeps_the_laws(scheduler, asked_of(case), room)
    assert state is not None
    return state


def entries(state):
    """(request, tokens) of each step."""
    bounds = state.steps[BEGIN, : state.numbers[STEPS] + 1].tolist()
    return [
        list(zip(state.log[0, low:high].tolist(), state.log[2, low:high].tolist(), strict=True))
        for low, high in pairwise(bounds)
    ]


def test_sglang_runs_prompts_first_and_alone():
    """Request 1 comes while request 0 answers: its prompt has the next step, answers wait."""
    state = played("sglang", (4, 3, 0), (6, 2, 1))
    assert entries(state) == [[(0, 4)], [(1, 6)], [(0, 1), (1, 1)], [(0, 1)]]


def test_sglang_with_mixed_chunks_has_answers_beside_prompts():
    state = played("sglang", (4, 3, 0), (6, 2, 1), enable_mixed_chunk=True, chunked_prefill_size=5)
    assert entries(state) == [[(0, 4)], [(1, 4), (0, 1)], [(1, 2), (0, 1)], [(1, 1)]]


def test_sglang_cuts_the_last_prompt_of_a_step():
    state = played("sglang", (4, 1, 0), (6, 1, 0), chunked_prefill_size=7)
    assert entries(state) == [[(0, 4), (1, 3)], [(1, 3)]]


def test_sglang_leaves_room_for_a_part_of_the_answers():
    """15 tokens: request 0 holds 4, and of its 9 answer tokens to come 6.3 are left free (.7 of
    them); request 1 would need 2 + 3 + a block of the 4.7 that remain, which is not less. With half
    of that ratio 3.15 are left free, and 6 are less than 7.85.
    """
    wishes = (4, 10, 0), (2, 3, 1)
    assert entries(played("sglang", *wishes, blocks=15))[1] == [(0, 1)]
    early = entries(played("sglang", *wishes, blocks=15, schedule_conservativeness=0.5))
    assert early[1] == [(1, 2)]


def test_sglang_retracts_the_shortest_answer():
    """13 tokens, and no room kept: both are let in, and have 6 tokens each when the next two do not
    fit. Their answers and prompts are as long, so that the one goes that runs last.
    """
    state = played("sglang", (3, 5, 0), (3, 5, 1), blocks=13, schedule_conservativeness=0.0)
    assert state.requests[PREEMPTED].tolist() == [0, 1]
    assert entries(state)[2:7] == [*[[(0, 1), (1, 1)]] * 3, [(0, 1)], [(1, 7)]]


def test_sglang_loses_a_token_that_was_on_its_way():
    """The same, decided while the step before runs: request 1 has given 4 tokens when it is
    retracted, of which nobody has seen the last, so that 3 + 3 are computed again.
    """
    given: dict[str, Any] = {"schedule_conservativeness": 0.0, "async_scheduling": True}
    state = played("sglang", (3, 5, 0), (3, 5, 1), blocks=13, **given)
    assert state.log[DROPS, : state.numbers[ENTRIES]].sum() == 1
    assert entries(state)[6] == [(1, 6)]


def test_sglang_admits_nobody_once_one_found_no_room_until_another_leaves():
    """3,002 tokens: request 0 holds 2, and .7 of 2,999 to come are left free; request 1 would need
    890 + 20 + 1 of the 901 that remain. As the ratio falls these are more from the next steps on,
    but it waits for the end of request 0.
    """
    state = played("sglang", (2, 3000, 0), (890, 20, 1), blocks=3002)
    assert entries(state).index([(1, 890)]) == 3000


def test_sglangs_ratio_begins_anew_where_nobody_runs_or_waits():
    """As above, once request 0 has answered for 1,000 steps: the ratio is .7 again."""
    wishes = (2, 1000, 0), (2, 3000, 10**6), (890, 20, 10**6 + 1)
    assert entries(played("sglang", *wishes, blocks=3002)).index([(2, 890)]) == 4000


def test_sglang_cuts_prompts_by_the_card():
    """2,048 tokens below 20 GiB, 4,096 below 60, 16,384 from 160 on; what is written stays."""
    sizes = [
        Sglang().on_card(gib * GIB, "").chunked_prefill_size for gib in (16, 24, 48, 80, 141, 180)
    ]
    assert sizes == [2048, 4096, 4096, 8192, 8192, 16384]
    assert Sglang(chunked_prefill_size=512).on_card(80 * GIB, "").chunked_prefill_size == 512
    assert Sglang(chunked_prefill_size=None).on_card(80 * GIB, "").chunked_prefill_size is None


def test_trtllm_admits_only_what_will_never_have_to_give_way():
    """12 tokens: request 0 needs 4 + 5 in the end, so that request 1, which needs 4, waits until it
    has gone; to use the room better it runs at once, and has to give way.
    """
    wishes = (4, 6, 0), (3, 2, 0)
    for policy, together in (("guaranteed_no_evict", False), ("max_utilization", True)):
        state = played("trtllm", *wishes, blocks=12, capacity_scheduler_policy=policy)
        assert (len(entries(state)[0]) == 2) == together
    first = entries(played("trtllm", *wishes, blocks=12))
    assert [(1, 3)] in first
    assert first.index([(1, 3)]) == 6


def test_trtllm_does_not_cut_prompts_unless_it_is_told_to():
    """A step of 6: the second prompt, of 4, does not fit beside the first, nor beside its answer
    token and a third; a prompt of 7 is never taken.
    """
    wishes = (4, 2, 0), (4, 1, 0), (7, 1, 0)
    state = played("trtllm", *wishes, max_num_tokens=6)
    assert entries(state) == [[(0, 4)], [(0, 1), (1, 4)]]
    assert state.requests[STATUS, 2] == REJECTED
    cut = played("trtllm", *wishes, max_num_tokens=6, enable_chunked_context=True)
    assert entries(cut)[:2] == [[(0, 4), (1, 2)], [(0, 1), (1, 2), (2, 3)]]


def test_llama_cpp_cuts_a_batch_into_passes():
    """Batches of 8 in passes of 4: the last slot is taken first, so that the second prompt, of 6,
    comes before the first one, of 5, which goes on in the next batch.
    """
    state = played("llama.cpp", (5, 3, 0), (6, 1, 0), n_batch=8, n_ubatch=4)
    assert entries(state) == [[(1, 4)], [(1, 2), (0, 2)], [(0, 3)], [(0, 1)], [(0, 1)]]


def test_llama_cpp_splits_a_batch_by_slots_without_a_unified_cache():
    """Prompts of 5 and 3 in slots 1 and 0 go on together, then the longer one alone. Its answer is
    a pass of its own, before the prompt that comes to slot 0: numbers only rise in a pass.
    """
    state = played("llama.cpp", (5, 3, 0), (3, 1, 0), (4, 1, 0), max_num_seqs=2, n_ubatch=8)
    assert entries(state) == [[(1, 3), (0, 3)], [(0, 2)], [(0, 1)], [(2, 4)], [(0, 1)]]


def test_llama_cpp_with_recurrent_layers_takes_as_many_tokens_of_each_slot():
    asked = ((5, 3, 0), (3, 1, 0), (4, 1, 0))
    state = played("llama.cpp", *asked, n_ubatch=8, kv_unified=True, recurrent=True)
    assert entries(state)[:2] == [[(2, 2), (1, 2), (0, 2)], [(2, 1), (1, 1), (0, 1)]]


def test_llama_cpp_refuses_what_a_slot_does_not_hold():
    state = played("llama.cpp", (5, 3, 0), (6, 3, 0), slot_context=8)
    assert state.requests[STATUS].tolist()[1] == REJECTED
