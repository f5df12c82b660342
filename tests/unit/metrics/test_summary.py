"""Numbers of a run worked out by hand, and against its own tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.hardware.charge import CHARGES
from moesim.metrics.summary import per_request, time_share, tpot_ms, warm_up_steps
from moesim.testing.traces import toy_trace
from moesim.workload.batching.refill import Refill
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

MS = 1_000_000


def observed(lengths, phase, ends):
    """``per_request`` of two slots whose passes end at ``ends`` in ns, by pass and GPU."""
    trace = toy_trace(lengths)
    requests = Requests.of(trace, phase)
    schedule = Schedule.of(requests, Refill(batch_size=2).seats(requests), trace, 1)
    case: Any = SimpleNamespace(trace=trace, schedule=schedule)
    outcome: Any = SimpleNamespace(ends=np.array(ends))
    return per_request(case, outcome)


def test_tpot_by_hand():
    """Steps hold [0, 1], [0, 2], [0, 2]: request 0 ends at 10, 25, 70; 1 at 10; 2 at 25 and 70."""
    found = observed([(0, 3), (0, 1), (0, 2)], "decode", [[10 * MS], [25 * MS], [70 * MS]])
    assert found["request_id"].tolist() == [10, 11, 12]
    assert found["tokens"].tolist() == [3, 1, 2]
    assert found["first_ns"].tolist() == [10 * MS, 10 * MS, 25 * MS]
    assert found["last_ns"].tolist() == [70 * MS, 10 * MS, 70 * MS]
    np.testing.assert_array_equal(tpot_ms(found), [30.0, np.nan, 45.0])


def test_a_step_ends_with_its_slowest_gpu():
    found = observed([(0, 2)], "decode", [[3 * MS, 5 * MS], [9 * MS, 8 * MS]])
    assert tpot_ms(found).tolist() == [4.0]


def test_a_prompt_does_not_count_and_a_request_without_answer_has_no_tpot():
    """Passes: the prompts of both, then two steps of request 0."""
    found = observed([(2, 2), (1, 0)], "all", [[7 * MS], [20 * MS], [26 * MS]])
    assert found["tokens"].tolist() == [2, 0]
    assert found["first_ns"].tolist() == [20 * MS, 7 * MS]
    np.testing.assert_array_equal(tpot_ms(found), [6.0, np.nan])


def test_the_rest_of_the_time_is_idle():
    charges = dict(zip(CHARGES, [10, 0, 20, 30, 0, 12, 5, 3], strict=True))
    shares = time_share(charges, 100)
    assert shares["waiting_for_weights"] == 0.12
    assert shares["waiting_for_cpu"] == 0.03
    assert shares["idle"] == 0.2
    assert sum(shares.values()) == pytest.approx(1, abs=1e-15)
    assert time_share(dict.fromkeys(CHARGES, 0), 0)["idle"] == 1


@pytest.fixture(scope="module", params=[{}, {"parallelism": {"expert": 4}, "software": "hf-eager"}])
def result(request):
    source = {
        "model": "gpt-oss-20b",
        "hardware": "h100-sxm",
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 12, "batching": {"kind": "refill", "batch_size": 6}},
        "experts": {"capacity": "4 slots/layer"},
        "warm_up": "15 %",
        **request.param,
    }
    return moesim.run(source, limit_steps=30)


def test_shares_add_up_to_one(result):
    for numbers in (result.summary, result.summary["after_warm_up"]):
        assert sum(numbers["time_share"].values()) == pytest.approx(1, abs=1e-12)
        assert min(numbers["time_share"].values()) >= 0


def test_totals_are_the_sums_of_the_steps(result):
    compare(result, result.summary, result.steps, 0)


def test_after_warm_up_is_the_rest_of_the_steps(result):
    """15 % of 30 steps are 4.5: the first 5 are left out, and the clock starts where they end."""
    after, rest = result.summary["after_warm_up"], result.steps[result.steps.step >= 5]
    assert (after["warm_up_steps"], after["steps"]) == (5, 25)
    compare(result, after, rest, int(result.steps.end_ns[4]))


def compare(result, numbers, steps, begin):
    duration = int(steps.end_ns.max()) - begin
    gpus = result.configuration["parallelism"]["expert"]
    assert numbers["duration_ms"] == duration / MS
    for name in ("tokens", "hits", "misses", "bytes_h2d"):
        assert numbers[name] == steps[name].sum(), name
    assert numbers["layer_steps"] == 24 * len(steps)
    assert numbers["hits"] + numbers["late"] + numbers["misses"] == steps.activations.sum()
    assert numbers["hit_ratio_per_expert"] == steps.hits.sum() / steps.activations.sum()
    assert numbers["hit_ratio_per_access"] == steps.access_hits.sum() / steps.accesses.sum()
    assert steps.accesses.sum() == 4 * 24 * steps.tokens.sum()  # top 4 in 24 layers, none dropped
    assert numbers["output_throughput"] == pytest.approx(steps.tokens.sum() / duration * 1e9)
    assert numbers["stall_ms"] == pytest.approx(steps.stall_ns.sum() / MS, rel=1e-12)
    assert numbers["barrier_ms"] == pytest.approx(steps.barrier_ns.sum() / MS, rel=1e-12)
    of_experts = numbers["time_share"]["experts"] / steps.experts_ns.sum()
    for name in CHARGES[:5]:
        charged = steps[f"{name}_ns"].sum()
        assert numbers["time_share"][name] == pytest.approx(charged * of_experts, rel=1e-9), name
    if begin == 0:
        assert of_experts == pytest.approx(1 / (duration * gpus), rel=1e-9)


def test_the_layers_are_the_steps(result):
    by_step = result.layers.groupby("step")[["hits", "misses", "stall_ns", "barrier_ns"]].sum()
    for name in by_step:
        assert by_step[name].tolist() == result.steps[name].tolist(), name


def test_the_requests_are_the_steps(result):
    """Every end of a request is the end of a step; the tokens are all of the run's."""
    ends = set(result.steps.end_ns)
    assert set(result.requests.first_ns) | set(result.requests.last_ns) <= ends
    assert result.requests.tokens.sum() == result.summary["tokens"]
    known = result.requests.tpot_ms.dropna()
    assert result.summary["mean_tpot_ms"] == pytest.approx(known.mean(), rel=1e-12)
    assert result.summary["p50_tpot_ms"] == pytest.approx(known.median(), rel=1e-12)


def test_a_gpu_that_is_early_at_the_end_of_the_warm_up_has_no_negative_idle_time():
    """GPU 1 has no request and leaves each step before the head: its next step starts earlier."""
    source = {
        "model": "gpt-oss-20b",
        "hardware": "h100-sxm",
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 1},
        "parallelism": {"expert": 2},
    }
    result = moesim.run(source, limit_steps=4)
    shares = result.summary["after_warm_up"]["time_share"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    # the wait for the last head is all that is idle, in four steps or in the last three
    assert shares["idle"] == pytest.approx(result.summary["time_share"]["idle"] * 4 / 3, rel=0.05)
    assert shares["idle"] > 0


@pytest.mark.parametrize(
    ("share", "steps", "left_out"),
    [(0.07, 100, 7), (0.29, 100, 29), (0.57, 100, 57), (0.15, 30, 5), (1.0, 9, 8), (0.0, 9, 0)],
)
def test_the_warm_up_is_an_exact_share(share, steps, left_out):
    """In floats 0.07 x 100 is a little more than 7, and its ceiling 8."""
    assert warm_up_steps(share, steps) == left_out
