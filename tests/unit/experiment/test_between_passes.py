"""What software copies between host and GPU from one pass to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moesim
from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.metrics.priced_time import price_share

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b@mxfp4_moe",
    "hardware": "rtx-4090",
    "software": "llama.cpp",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1, "phase": "decode"},
}
PASSES, INPUTS = 12, 6


def case_of(**given: Any) -> Case:
    return build(moesim.load_experiment(SOURCE | given).experiment, PASSES).case


def charged(outcome: Outcome, category: str) -> int:
    by_category = outcome.charges.sum(axis=(0, 1)).tolist()
    return int(dict(zip(outcome.categories, by_category, strict=True))[category])


@pytest.mark.parametrize("experts", [{}, {"on_cpu": {"layers": 20}}])
def test_logits_and_inputs_are_copied_once_a_pass(experts: dict[str, Any]) -> None:
    """By hand: 201,088 logits of four bytes and a wait of 10 us; six latencies and one vector."""
    case = case_of(experts=experts)
    outcome, by_events = run_replay(case), run_des(case, check=True)
    copies = build(moesim.load_experiment(SOURCE).experiment, 1).hardware.datasheet
    out, back = copies.copy_of("d2h", True), copies.copy_of("h2d", True)
    logits = out.latency_ns + -(-201_088 * 4 * 10**9 // out.bytes_per_second) + 10_000
    inputs = INPUTS * back.latency_ns + -(-2_880 * 4 * 10**9 // back.bytes_per_second)
    assert charged(outcome, "waiting_for_logits") == PASSES * logits
    assert charged(outcome, "waiting_for_inputs") == PASSES * inputs
    assert np.array_equal(outcome.charges, by_events.charges)
    assert sum(price_share(outcome).values()) == pytest.approx(1)


def test_a_prompt_is_handed_its_vectors_and_reads_no_logits() -> None:
    small = {"model": "small-moe", "trace": "traces/small-moe.parquet"}
    case = case_of(**small, workload={"requests": 1, "phase": "prefill"})
    outcome = run_replay(case)
    assert charged(outcome, "waiting_for_logits") == 0
    more = charged(outcome, "waiting_for_inputs") - case.prices.price("step_inputs", 1, INPUTS)
    assert more > 0


def test_other_software_has_nothing_of_it() -> None:
    assert not {one for one in run_replay(case_of(software="vllm")).categories if "inputs" in one}
