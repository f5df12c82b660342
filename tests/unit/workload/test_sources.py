"""Sums over the sources of an encoder-decoder model, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.testing.traces import toy_trace
from moesim.trace.routing import Phase
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule
from moesim.workload.sources import SourceSums, longest_source, source_tokens

NAMES = ("context_tokens", "kv_tokens", "projected_tokens", "cached_tokens")


def translations(lengths):
    """A request for each (source, prompt, answer) length."""
    trace = toy_trace([(source + prompt, answer) for source, prompt, answer in lengths])
    phase, begins = trace.phase.copy(), trace.request_offsets()
    for begin, (source, _, _) in zip(begins, lengths, strict=False):
        phase[begin : begin + source] = Phase.ENCODE
    return replace(trace, phase=phase)


def scheduled(trace, phase, size, gpus=1, chunk=None):
    requests = Requests.of(trace, phase)
    return Schedule.of(requests, Static(batch_size=size).seats(requests), trace, gpus, chunk)


def sums(trace, phase, size=2, gpus=1, chunk=None):
    found = SourceSums.of(scheduled(trace, phase, size, gpus, chunk), trace, gpus)
    return {name: getattr(found, name).squeeze().tolist() for name in NAMES}


def test_every_decode_step_reads_the_source_and_the_first_projects_it():
    """Sources of 5 and 2, answers of 3 and 1, whether or not the run encodes them."""
    trace = translations([(5, 0, 3), (2, 0, 1)])
    decode = {
        "context_tokens": [7, 5, 5],
        "kv_tokens": [7, 5, 5],
        "projected_tokens": [7, 0, 0],
        "cached_tokens": [7, 5, 5],
    }
    assert sums(trace, "decode") == decode
    assert sums(trace, "all") == {name: [0, *values] for name, values in decode.items()}
    assert source_tokens(trace).tolist() == [5, 2]


def test_a_prompt_reads_its_source_once_a_pass_and_projects_it_once():
    """A source of 5, a prompt of 3 in chunks of 2, then two steps, which alone project nothing."""
    trace = translations([(5, 3, 2)])
    found = sums(trace, "all", chunk=2)
    assert found["context_tokens"] == [0, 10, 5, 5, 5]
    assert found["kv_tokens"] == [0, 5, 5, 5, 5]
    assert found["projected_tokens"] == [0, 5, 0, 0, 0]
    assert found["cached_tokens"] == [0, 5, 5, 5, 5]
    assert sums(trace, "decode")["projected_tokens"] == [0, 0]
    assert sums(trace, "decode")["cached_tokens"] == [5, 5]


def test_sources_are_of_each_gpu_and_of_those_that_share_them():
    trace = translations([(5, 0, 2), (2, 0, 2), (3, 0, 1)])
    found = SourceSums.of(scheduled(trace, "decode", 3, gpus=2), trace, 2)
    assert found.kv_tokens.tolist() == [[8, 2], [5, 2]]
    assert found.of_groups(2).kv_tokens.tolist() == [[10, 10], [7, 7]]
    assert found.of_groups(2).projected_tokens.tolist() == [[10, 10], [0, 0]]


@pytest.mark.parametrize("phase", ["decode", "all", "prefill"])
def test_a_trace_without_encoder_tokens_has_no_sources(phase):
    trace = toy_trace([(3, 2), (2, 2)])
    assert {value for values in sums(trace, phase).values() for value in np.ravel(values)} == {0}
    assert longest_source(scheduled(trace, phase, 2), trace) == 0


def test_the_longest_source_is_one_of_the_run():
    trace = translations([(5, 0, 0), (2, 0, 1)])
    assert longest_source(scheduled(trace, "decode", 2), trace) == 2
    assert longest_source(scheduled(trace, "encode", 2), trace) == 5
