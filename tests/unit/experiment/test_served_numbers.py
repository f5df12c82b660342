"""What clients see of requests that are served: laws that hold of every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.metrics.served import TIMES, served_keys, statistics_of
from moesim.workload.speculation import Draft
from tests.reference.agreement import assert_same

SMALL = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "small-moe"}
LENGTHS = {"kind": "random", "input_len": 90, "output_len": 12, "range_ratio": 0.5}
POISSON = {"kind": "poisson", "request_rate": "300 requests/s"}
CLOSED = {"kind": "closed_loop", "max_concurrency": 3}


def experiment_of(arrivals: dict[str, Any], **choices: Any) -> Any:
    workload = {
        "requests": 12,
        "arrivals": arrivals,
        "lengths": LENGTHS,
        "routing": {"kind": "draw"},
        "batching": {
            "kind": "continuous",
            "scheduler": {"kind": "vllm", "max_num_batched_tokens": 64},
        },
    }
    given = {**SMALL, "records": "step", "workload": workload, **choices}
    return load_experiment(given).experiment


CASES = [
    (POISSON, "vllm"),
    (POISSON, "ideal"),
    (CLOSED, "vllm"),
    (CLOSED, "ideal"),
    ({"kind": "at_once"}, "vllm"),
]


@pytest.mark.parametrize(("arrivals", "software"), CASES)
def test_laws(arrivals: dict[str, Any], software: str) -> None:
    result = simulate(experiment_of(arrivals, software=software), check=True)
    numbers, table = result.summary, result.requests
    assert numbers["completed"] == 12 == len(table)
    tokens = numbers["total_input_tokens"] + numbers["total_output_tokens"]
    assert numbers["tokens"] == tokens - 12  # the last of an answer is in no pass
    steps = result.steps
    assert (steps.prompt_tokens + steps.decode_tokens == steps.tokens).all()
    assert steps.free_blocks.between(0, numbers["kv_blocks"]).all()
    held = numbers["kv_blocks"] - steps.free_blocks.min()
    assert numbers["kv_usage_max"] == pytest.approx(held / numbers["kv_blocks"])
    if "decided_ns" in steps:
        assert (steps.decided_ns <= steps.end_ns).all()
        assert (np.diff(steps.decided_ns) >= 0).all()
    # what the first token's time is made of adds up, to the nanosecond
    names = map(str, table.columns)
    parts = [name for name in names if name.startswith("ttft_") and name != "ttft_ms"]
    assert table[parts].sum(axis=1).to_numpy() == pytest.approx(table.ttft_ms, abs=1e-6)
    assert (table[parts] >= 0).all().all()
    # Little: clients that wait, over time, are all the time that they wait
    sent, last = table.arrival_ns.to_numpy(), table.last_ns.to_numpy()
    instants = np.unique(np.concatenate((sent, last)))
    waiting = [((sent <= t) & (last > t)).sum() for t in instants[:-1]]
    assert int(np.dot(waiting, np.diff(instants))) == int((last - sent).sum())
    assert (last - sent) / 1e6 == pytest.approx(table.e2el_ms)
    assert numbers["max_concurrent_requests"] == max(waiting)
    # all tokens of answers, over the time from the first request to the last token
    lasts = (last.max() - sent.min()) / 1e9
    assert numbers["output_throughput"] == pytest.approx(numbers["total_output_tokens"] / lasts)
    for name in ("ttft", "tpot", "e2el", "queue"):
        assert numbers[f"mean_{name}_ms"] == pytest.approx(table[f"{name}_ms"].mean())
    # a token comes at the end of a pass: none before its request, none at one time
    assert (table.first_ns > table.arrival_ns).all()
    assert (table.max_itl_ms > 0).all()


@pytest.mark.parametrize("drafts", [0, 2])
@pytest.mark.parametrize("slots", ["all", "8 slots/layer"])
def test_both_engines_say_the_same(slots: str, drafts: int) -> None:
    """Host times, captured passes and a small cache of keys and values among it."""
    choices = {"experts": {"capacity": slots}, "memory": {"kv": "20 blocks"}}
    experiment = experiment_of(POISSON, software="vllm", **choices)
    if drafts:
        asked = Draft(model="llama-3.1-8b", num_speculative_tokens=drafts)
        workload = experiment.workload.model_copy(update={"speculative": asked})
        experiment = experiment.model_copy(update={"workload": workload})
    case = build(experiment).case
    des = run_des(case, check=True)
    assert_same(run_replay(case), des)
    assert case.serving is not None
    assert case.serving.state is not None
    assert case.serving.state.ranks[0].tolist() == [20]  # all blocks are free again


def test_the_host_is_in_the_way_of_what_is_scheduled_synchronously() -> None:
    """Each pass waits for what the host does after the one before it, and before it."""
    one = experiment_of({"kind": "at_once"}, software="vllm")
    scheduler = one.workload.batching.scheduler.model_copy(update={"async_scheduling": False})
    batching = one.workload.batching.model_copy(update={"scheduler": scheduler})
    workload = one.workload.model_copy(update={"batching": batching})
    result = simulate(one.model_copy(update={"workload": workload}))
    steps = result.steps
    alive = steps.live_requests.to_numpy()
    # the front end apart: host time of vLLM's profile
    before, after = 250_000 + 10_000 * alive, 250_000 + 10_000 * alive
    waited = before + np.concatenate(([0], after[:-1]))
    begins, ends = steps.start_ns.to_numpy(), steps.end_ns.to_numpy()
    # the requests are on their way first; then the wait for the host belongs to each pass
    assert begins.tolist() == [2_000_000, *ends[:-1].tolist()]
    assert (steps.host_ns.to_numpy() >= waited).all()
    idle = result.summary["time_share"]["idle"] * result.summary["duration_ms"]
    assert idle == pytest.approx(2)


def test_known_passes_are_those_that_are_decided_as_the_clock_goes() -> None:
    """Where all come at once no clock matters, though the host takes time."""
    one = experiment_of({"kind": "at_once"}, software="vllm")
    case = build(one).case
    assert case.scheduler is not None
    known = case.schedule
    steps = simulate(one).steps
    assert steps.tokens.tolist() == np.diff(known.offsets).tolist()


def test_statistics() -> None:
    found = statistics_of("ttft", np.array([1.0, np.nan, 3.0, 2.0]))
    assert found["mean_ttft_ms"] == found["median_ttft_ms"] == found["p50_ttft_ms"] == 2
    assert found["p90_ttft_ms"] == pytest.approx(2.8)
    assert set(statistics_of("ttft", np.zeros(0)).values()) == {None}
    assert len(served_keys()) == 17 + 7 * len(TIMES)
