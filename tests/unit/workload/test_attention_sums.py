"""Attention sums worked out by hand: decode, prompts and encoders, with and without windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.runtime import compiled
from moesim.testing.traces import toy_trace
from moesim.trace.routing import Phase
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import AttentionSums, Schedule


@pytest.fixture(params=["as written", "compiled"], autouse=True)
def _both_ways(request, monkeypatch):
    """The first sums of a process are made in Python where they are few."""
    monkeypatch.setattr(compiled, "asked", set() if request.param == "as written" else {None})


def sums(trace, phase, window, size=2, gpus=1, chunk=None):
    requests = Requests.of(trace, phase)
    seats = Static(batch_size=size).seats(requests)
    schedule = Schedule.of(requests, seats, trace, gpus, chunk)
    return AttentionSums.of(schedule, trace, gpus, window)


def listed(found):
    return {
        name: values.squeeze(axis=1).tolist()
        for name, values in vars(found).items()
        if name not in ("decoding", "longest")
    }


def test_decode_reads_what_it_sees():
    """Answers at positions 3, 4, 5 and 2, 3: contexts are one more."""
    trace = toy_trace([(3, 3), (2, 2)])
    assert listed(sums(trace, "decode", None)) == {
        "tokens": [2, 2, 1],
        "context_tokens": [4 + 3, 5 + 4, 6],
        "kv_tokens": [4 + 3, 5 + 4, 6],
        "cached_tokens": [4 + 3, 5 + 4, 6],
    }
    clipped = [4 + 3, 4 + 4, 4]
    assert listed(sums(trace, "decode", 4)) == {
        "tokens": [2, 2, 1],
        "context_tokens": clipped,
        "kv_tokens": clipped,
        "cached_tokens": clipped,
    }


def test_a_prompt_is_causal_and_read_once():
    """Prompts of 4 and 2: contexts 1 + 2 + 3 + 4 and 1 + 2; keys and values are 4 and 2, unclipped
    (the last position + 1); the cache holds no more than the window.
    """
    trace = toy_trace([(4, 0), (2, 0)])
    assert listed(sums(trace, "prefill", None)) == {
        "tokens": [6],
        "context_tokens": [10 + 3],
        "kv_tokens": [6],
        "cached_tokens": [6],
    }
    assert listed(sums(trace, "prefill", 3)) == {
        "tokens": [6],
        "context_tokens": [(1 + 2 + 3 + 3) + 3],
        "kv_tokens": [6],
        "cached_tokens": [3 + 2],
    }


def test_an_encoder_sees_all_of_its_request_and_caches_nothing():
    trace = toy_trace([(4, 0), (2, 0)])
    trace = replace(trace, phase=np.full(6, Phase.ENCODE, np.uint8))
    assert listed(sums(trace, "encode", 3)) == {
        "tokens": [6],
        "context_tokens": [4 * 4 + 2 * 2],
        "kv_tokens": [4 + 2],
        "cached_tokens": [0],
    }


def test_all_is_the_prompt_then_the_answer():
    trace = toy_trace([(3, 2)])
    found = sums(trace, "all", None, size=1)
    assert listed(found)["tokens"] == [3, 1, 1]
    assert listed(found)["context_tokens"] == [6, 4, 5]
    assert listed(found)["kv_tokens"] == [3, 4, 5]


def test_a_chunk_reads_the_chunks_before_and_the_cache_keeps_them():
    """Prompts of 5 and 2 in chunks of 3: [0 1 2], [3 4 | 0], [1 |]; then a decode step of each."""
    found = listed(sums(toy_trace([(5, 1), (2, 1)]), "all", None, chunk=3))
    assert found == {
        "tokens": [3, 3, 1, 2],
        "context_tokens": [1 + 2 + 3, 4 + 5 + 1, 2, 6 + 3],
        "kv_tokens": [3, 5 + 1, 2, 6 + 3],
        "cached_tokens": [3, 5 + 1, 5 + 2, 6 + 3],
    }


def test_chunks_are_of_each_gpu():
    """Slots 0 and 2 on GPU 0 have 3 + 2 prompt tokens, slot 1 on GPU 1 has one."""
    found = sums(toy_trace([(3, 1), (1, 1), (2, 1)]), "all", None, size=3, gpus=2, chunk=2)
    assert found.tokens.tolist() == [[2, 1], [2, 0], [1, 0], [2, 1]]
    assert found.cached_tokens.tolist() == [[2, 1], [3 + 1, 1], [3 + 2, 1], [4 + 3, 2]]


def test_each_gpu_has_its_own_requests():
    """Slots 0 and 2 sit on GPU 0, slot 1 on GPU 1, which has nothing to do in the second step."""
    trace = toy_trace([(1, 2), (5, 1), (3, 2)])
    found = sums(trace, "decode", None, size=3, gpus=2)
    assert found.tokens.tolist() == [[2, 1], [2, 0]]
    assert found.context_tokens.tolist() == [[2 + 4, 6], [3 + 5, 0]]


def test_a_trace_without_prompts_starts_where_it_was_recorded():
    trace = toy_trace([(0, 2)], first=20)
    assert listed(sums(trace, "decode", None))["context_tokens"] == [21, 22]


def test_the_first_passes_are_a_prefix():
    trace = toy_trace([(2, 3), (1, 4), (3, 1)])
    requests = Requests.of(trace, "all")
    whole = Schedule.of(requests, Static(batch_size=2).seats(requests), trace, 2)
    for passes in range(1, whole.passes + 2):
        part = whole.first(passes)
        assert part.passes == min(passes, whole.passes)
        assert part.rows.tolist() == whole.rows[: part.offsets[-1]].tolist()
        assert part.pass_of_token().tolist() == whole.pass_of_token()[: len(part.rows)].tolist()


def test_the_longest_context_is_that_of_answers():
    """Answers at positions 3, 4, 5 and 2, 3; prompts have none."""
    trace = toy_trace([(3, 3), (2, 2)])
    assert sums(trace, "decode", None).longest[:, 0].tolist() == [4, 5, 6]
    assert sums(trace, "decode", 5).longest[:, 0].tolist() == [4, 5, 5]
    assert not sums(trace, "prefill", None).longest.any()


def test_of_a_group_the_longest_is_that_of_all():
    trace = toy_trace([(3, 3), (2, 2)])
    found = sums(trace, "decode", None, gpus=2)
    assert found.longest.max(axis=1).tolist() == found.of_groups(2).longest[:, 1].tolist()
    assert (found.of_groups(2).longest[:, 0] == found.of_groups(2).longest[:, 1]).all()
