"""Prefill in chunks and around the caches: laws, and scenes on which engines and reference
agree.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine.replay.run import run_replay

from .agreement import Observed, agree, observed, verdict_of
from .prices import ToyPrices
from .reference_batches import requests_of
from .reference_placement import local_experts
from .reference_words import DECODE, PREFILL, Config, Layer, Model, Span, Trace
from .strategies import Case, cases, few
from .wiring import engine_case


def played(case: Case, **choices: Any) -> Observed:
    theirs = engine_case(replace(case, config=replace(case.config, **choices)))
    return observed(theirs, run_replay(theirs))


@few
@given(cases(prompts=True), st.none() | st.integers(1, 7))
def test_around_the_caches_decode_hits_are_those_without_prompts(
    case: Case, chunk: int | None
) -> None:
    """Requests that only have a prompt sit in batches too, so the trace has none of them."""
    assume(case.config.policy != "hobbit")  # begins anew with each request, prompts and all
    trace = answered(case.trace)
    if not trace["phase"]:
        return
    around = case.config.prefill if case.config.prefill != "cache" else "bypass"
    case = replace(case, trace=trace)
    engine = played(case, prefill=around, chunk=chunk, phase="all")
    without = played(case, prefill=around, chunk=chunk, phase="decode")
    columns = ["activations", "hits", "misses", "access_hits", "bytes_h2d"]
    decode = [step for step in engine.steps if step["phase"] == "decode"]
    assert [[s[c] for c in columns] for s in decode] == [
        [s[c] for c in columns] for s in without.steps
    ]


def answered(trace: Trace) -> Trace:
    """The requests with decode tokens."""
    kept = {r.request_id for r in requests_of(trace, "decode")}
    rows = [row for row, name in enumerate(trace["request_id"]) if name in kept]
    return {column: [values[row] for row in rows] for column, values in trace.items()}


@few
@given(cases(prompts=True))
def test_a_chunk_of_all_prompts_is_no_chunk(case: Case) -> None:
    everything = case.trace["phase"].count(PREFILL) + 1
    chunked, whole = (played(case, chunk=chunk) for chunk in (everything, None))
    assert chunked == replace(whole, summary=chunked.summary, handled=chunked.handled)
    assert chunked.totals == whole.totals


@few
@given(cases(prompts=True))
def test_chunks_route_every_choice_once(case: Case) -> None:
    """Whatever the chunk: the rows that are kept, and where nothing misses, nothing copied."""
    case = replace(case, config=replace(case.config, gating="dynamic"))
    whole, chunked = (verdict_of(case, chunk=chunk) for chunk in (None, 2))
    assert (chunked.tokens, chunked.rows_kept) == (whole.tokens, whole.rows_kept)
    if case.config.prefill != "stream":
        assert chunked.bytes_h2d == chunked.read * case.model.expert_bytes


@given(cases(prompts=True))
def test_a_prompt_that_streams_copies_every_local_expert_once_a_pass(case: Case) -> None:
    config = replace(case.config, prefill="stream")
    local = local_experts(case.model, config)
    given = [config.slots_of(m) for m in range(len(case.model.moe_layers))]
    experts = sum(len(x) for n in given for x in local if n is not None and n < len(x))
    for step in played(case, prefill="stream").steps:
        if step["phase"] == "prefill":
            assert step["bytes_h2d"] == experts * case.model.expert_bytes


def test_a_layer_is_copied_while_the_one_before_computes() -> None:
    """Three layers of 2 experts, a copy 17 + 34 = 51 ns: copies hide behind kernels of 1000 ns."""
    trace, model = prompt([[0], [1]], [[1]])
    trace["expert_ids"] = [token * 3 for token in trace["expert_ids"]]
    layers = [Layer(index, moe=True) for index in range(3)]
    model = replace(model, layers=layers, experts=2)
    prices = ToyPrices(expert_start=1000)
    config = Config(phase="prefill", slots=1, prefill="stream")
    verdict = agree(Case(trace, model, config, prices))
    # the first layer waits for its two copies, which start with the pass; no other waits
    assert verdict.spans[0].start_ns == 2 * 51
    assert [row["stall_ns"] > 0 for row in verdict.layers] == [True, False, False]


def prompt(steps: list[list[int]], answers: list[list[int]]) -> tuple[Trace, Model]:
    """One request of one MoE layer: its prompt tokens' experts, then its decode tokens'."""
    ids = [*steps, *answers]
    trace: Trace = {
        "expert_ids": [[token] for token in ids],
        "request_id": [0] * len(ids),
        "position": list(range(len(ids))),
        "phase": [PREFILL] * len(steps) + [DECODE] * len(answers),
    }
    return trace, Model([Layer(0, moe=True)], 6, len(ids[0]), 1, 1, 100)


@pytest.mark.parametrize("kernels", ["grouped", "serial"])
def test_the_next_expert_is_copied_while_one_computes(kernels: str) -> None:
    """Expert 1 is resident; 0, 2, 3 and 4 pass through two buffers, 17 + 34 = 51 ns each."""
    trace, model = prompt([[0, 1], [1, 2], [1, 3], [1, 4]], [[1, 5]])
    prices = ToyPrices(expert_start=100)
    config = Config(phase="all", slots=1, prefill="bypass", initial="most_used", kernels=kernels)
    verdict = agree(Case(trace, model, config, prices))
    copies = [s for s in verdict.spans if s.engine == "copy_in" and s.step == 0]
    kernel = {s.experts[0]: s for s in verdict.spans if s.engine == "compute" and s.step == 0}
    assert [s.experts for s in copies] == [(0,), (2,), (3,), (4,)]
    # the second copy follows the first; the third waits until the first has executed, not longer
    assert copies[1].start_ns == copies[0].end_ns
    assert copies[2].start_ns == max(copies[1].end_ns, kernel[0].end_ns)
    assert copies[3].start_ns == max(copies[2].end_ns, kernel[2].end_ns)
    assert any(overlapping(copies[2], span) for span in kernel.values())


def overlapping(one: Span, other: Span) -> bool:
    return one.start_ns < other.end_ns and other.start_ns < one.end_ns


def test_a_chunk_reads_what_the_chunks_before_have_written() -> None:
    """A prompt of 5 in chunks of 2: 2, 2 and 1 tokens; contexts 1 + 2, 3 + 4 and 5."""
    trace, model = prompt([[e % 6] for e in range(5)], [[0]])
    free = dict.fromkeys(("expert_start", "expert", "tile", "token", "base"), 0)
    prices = ToyPrices(**free, context=1)
    verdict = agree(Case(trace, model, Config(phase="all", chunk=2), prices))
    assert [s["tokens"] for s in verdict.steps] == [2, 2, 1, 1]
