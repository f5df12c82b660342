"""What a result says of routing that nobody recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.report.run.trust import trust_lines
from moesim.trace.synthesis.evenness import drawn_notes
from moesim.trace.synthesis.generate import synthesize
from moesim.trace.synthesis.lengths import Fixed
from moesim.trace.synthesis.parameters import Part, Requests, SyntheticTrace
from moesim.trace.synthesis.popularity import Explicit


def drawn(shares: list[float]) -> Any:
    """Four experts with these shares of all choices, one a token."""
    popularity = Explicit(weights_by_layer=(" ".join(map(str, shares)),))
    return synthesize(
        SyntheticTrace(
            title="drawn",
            experts=4,
            top_k=1,
            moe_layer_ids=(0,),
            requests=Requests(
                count=20, prefill_tokens=Fixed(tokens=1), decode_tokens=Fixed(tokens=400)
            ),
            parts=(Part(phases=("prefill", "decode"), layers=1, popularity=popularity),),
        )
    )


def test_four_used_alike_are_uniform_and_one_used_mostly_is_not() -> None:
    (even,) = drawn_notes(drawn([0.25] * 4))
    assert even.startswith("experts are drawn, not recorded, nearly uniformly over all requests")
    assert "(as if 4 of 4 were used alike)" in even
    (uneven,) = drawn_notes(drawn([0.97, 0.01, 0.01, 0.01]))
    assert (
        uneven == "experts are drawn, not recorded: over all requests as if 1 of 4 were used alike"
    )


def test_of_a_recording_nothing_is_said() -> None:
    trace = drawn([0.25] * 4)
    assert not drawn_notes(replace(trace, metadata=replace(trace.metadata, recorder="vllm")))


@pytest.mark.parametrize("trace", ["stand-in:gpt-oss-20b", "gpt-oss-20b"])
def test_a_result_of_random_clients_says_so(trace: str) -> None:
    workload = {
        "requests": 4,
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 3},
        "routing": {"kind": "draw", "prompts_from": "decode"},
        "batching": {"kind": "continuous"},
    }
    given = {"model": "gpt-oss-20b", "hardware": "b200-sxm", "trace": trace}
    one = load_experiment({**given, "workload": workload, "records": "summary"}).experiment
    lines = trust_lines(simulate(one).summary)
    said = [line for line in lines if "nearly uniformly over all requests" in line]
    assert len(said) == (trace != "gpt-oss-20b")
    assert all(line.startswith("note: routing: experts are drawn") for line in said)
