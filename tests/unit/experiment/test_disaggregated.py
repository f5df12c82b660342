"""Experiments whose prompts and answers have instances of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.report.figures.serving_over_time import of_instances
from moesim.report.figures.throughput_vs_latency import gpus_of
from moesim.report.page.of_sweep import board_of
from moesim.results.result import Result
from moesim.sweep.found import read_sweep
from moesim.workload.serving.fleets.wire import Roles
from tests.unit.experiment.test_served_numbers import CLOSED, POISSON, SMALL, experiment_of

APART = {"prefill": 2, "decode": 1, "bandwidth": "1 GB/s", "latency": "5 us"}
ONCE = {"price_interval": "never"}
"""Runs are not played again for intervals, of which nothing is asked here."""
FREE = {"bandwidth": "100 TB/s"}
WAYS = [(overlap, first) for overlap in ("none", "layer") for first in ("prefill", "decode")]


def run(
    arrivals: dict[str, Any], *, check: bool = False, apart: Any = APART, **more: Any
) -> Result:
    choices = {"software": "vllm", "experts": {"capacity": "8 slots/layer"}, **more}
    return simulate(
        experiment_of(arrivals, serving={"disaggregation": apart, **ONCE}, **choices), check=check
    )


def way(overlap: str, first: str) -> dict[str, Any]:
    return {"overlap": overlap, "first_token": first}


@pytest.mark.parametrize(("overlap", "first"), WAYS)
@pytest.mark.parametrize("arrivals", [POISSON, CLOSED, {"kind": "at_once"}])
def test_both_engines_play_them_alike(arrivals, overlap, first):
    apart = {**APART, **way(overlap, first)}
    replay, des = run(arrivals, apart=apart), run(arrivals, apart=apart, check=True)
    assert (replay.summary["engine"], des.summary["engine"]) == ("replay", "des")
    own = ("engine", "engine_reason", "engine_wall_s", "checks", "intervals", "price_share",
           "price_interval")  # fmt: skip
    told = [{k: v for k, v in one.summary.items() if k not in own} for one in (replay, des)]
    assert told[0] == told[1]
    assert replay.requests.equals(des.requests)


@pytest.mark.parametrize(("overlap", "first"), WAYS)
def test_laws(overlap, first):
    """Every prompt is computed once where it is prefilled and goes over the wire once; clients get
    each token once; the parts of the time to the first token add up.
    """
    result = run(POISSON, apart={**APART, **way(overlap, first)})
    numbers, table, steps = result.summary, result.requests, result.steps
    again = first == "decode"
    assert numbers["completed"] == 12 == len(table)
    inputs, outputs = numbers["total_input_tokens"], numbers["total_output_tokens"]
    assert table.output_tokens.sum() == outputs
    assert numbers["tokens"] == inputs + outputs - 12 + 12 * again == steps.tokens.sum()
    model = build(experiment_of(POISSON)).case.model
    each = sum(layer.gpu_kv_bytes_per_token for layer in model.layers)
    assert (table.kv_bytes == table.input_tokens * each).all()
    assert numbers["kv_bytes_sent"] == inputs * each
    assert set(table.prefill_replica) == {0, 1}
    assert set(table.replica) == {2}
    wire = 5_000 + table.kv_bytes  # 1 GB/s: a byte takes 1 ns
    if overlap == "none":
        assert (table.kv_transfer_ms * 1e6).round().tolist() == wire.tolist()
        assert table.kv_exposed_ms.to_numpy() == pytest.approx(
            (table.kv_wait_ms + table.kv_transfer_ms).to_numpy()
        )
    else:
        assert (table.kv_exposed_ms * 1e6 >= 5_000).all()
        assert numbers["mean_kv_exposed_ms"] < numbers["mean_kv_transfer_ms"]
    parts = [one for one in map(str, table) if one.startswith("ttft_") and one != "ttft_ms"]
    assert ("ttft_transfer_ms" in parts) == again
    assert table[parts].sum(axis=1).to_numpy() == pytest.approx(table.ttft_ms, abs=1e-6)
    assert (table[parts] >= 0).all(axis=None)
    assert numbers["mean_max_itl_ms"] == pytest.approx(table.max_itl_ms.mean())
    assert numbers["median_max_itl_ms"] == pytest.approx(table.max_itl_ms.median())
    for name in ("misses", "steps", "bytes_h2d"):
        assert sum(numbers[f"{name}_by_role"].values()) == numbers[name]


def test_instances_are_what_runs_of_their_parts_are():
    """One instance of each, a wire without time: the one that prefills has the steps of an engine
    whose answers have one token, and the one that decodes those of one whose prompts are computed
    elsewhere, and whose requests come when those are there.
    """
    lengths = {"kind": "fixed", "input_len": 40, "output_len": 12}
    whole = run_fixed(lengths, POISSON, serving={"disaggregation": FREE})
    prompts = run_fixed({**lengths, "output_len": 1}, POISSON)
    assert whole.requests.ttft_ms.tolist() == prompts.requests.ttft_ms.tolist()
    took = whole.requests.kv_transfer_ms * 1e6
    assert took.round().max() <= 2  # rounded up
    steps = whole.steps
    first = steps[steps.decode_tokens == 0]
    assert first.start_ns.tolist() == prompts.steps.start_ns.tolist()
    assert first.tokens.tolist() == prompts.steps.tokens.tolist()


def run_fixed(lengths: dict[str, Any], arrivals: dict[str, Any], **more: Any) -> Result:
    workload = {
        "requests": 12,
        "arrivals": arrivals,
        "lengths": lengths,
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
    }
    given = {**SMALL, "records": "step", "workload": workload, **more}
    return simulate(load_experiment(given).experiment)


def test_far_apart_and_free_one_of_each_is_one_engine():
    """Nobody meets anybody: each request has the passes that it has alone, and no time passes
    between them (the wire takes a nanosecond).
    """
    rare = {"kind": "gamma", "request_rate": "1 requests/s", "burstiness": 50}
    lengths = {"kind": "fixed", "input_len": 40, "output_len": 12}
    alone = run_fixed(lengths, rare)
    apart = run_fixed(lengths, rare, serving={"disaggregation": FREE})
    assert apart.requests.ttft_ms.tolist() == alone.requests.ttft_ms.tolist()
    later = (apart.requests.e2el_ms - alone.requests.e2el_ms) * 1e6
    assert later.round().tolist() == [2] * 12 or later.round().tolist() == [1] * 12
    assert apart.summary["tokens"] == alone.summary["tokens"]


def test_a_faster_wire_is_no_slower():
    slow, fast = (run(POISSON, apart={**APART, "bandwidth": one}) for one in ("50 MB/s", "1 GB/s"))
    assert slow.summary["mean_kv_exposed_ms"] > fast.summary["mean_kv_exposed_ms"]
    assert slow.summary["mean_ttft_ms"] == fast.summary["mean_ttft_ms"]


def test_instances_of_several_gpus():
    """Two GPUs each that split heads: each sends its half."""
    parallel = {"expert": 2, "dense": "tensor"}
    result = run(POISSON, parallelism=parallel, check=True)
    table = result.requests
    assert (table.gpu // 2 == table.replica).all()
    one = run(POISSON).requests
    assert table.kv_bytes.tolist() == one.kv_bytes.tolist()
    assert (table.kv_transfer_ms * 1e6).round().tolist() == (5_000 + table.kv_bytes / 2).tolist()


def test_the_network_of_the_hardware_joins_them():
    """Eight cards of 50 GB/s for eight GPUs."""
    given = experiment_of(POISSON).model_dump(mode="json", exclude_unset=True)
    given |= {"hardware": "dgx-h100", "serving": {"disaggregation": {}}}
    case = build(load_experiment(given).experiment).case
    assert case.serving is not None
    assert isinstance(case.serving.routed, Roles)
    assert case.serving.routed.wire.bytes_per_second == 50 * 10**9


def test_a_sweep_over_instances(tmp_path):
    base = experiment_of(POISSON).model_dump(mode="json", exclude_unset=True)
    serving = {"disaggregation": {**APART, "decode": 2}}
    axis = {"serving.disaggregation.prefill": [1, 2]}
    moesim.sweep({**base, "serving": serving, "sweep": axis}, out=tmp_path / "sweep")
    found = read_sweep(tmp_path / "sweep")
    assert found.table.status.tolist() == ["ok", "ok"]
    assert gpus_of(found).tolist() == [3, 4]


def test_a_sweep_of_two_that_do_both_and_one_of_each(tmp_path):
    """Both have two GPUs, and the page has the terminal's sign for nothing."""
    base = experiment_of(POISSON).model_dump(mode="json", exclude_unset=True)
    axis = {"serving.replicas, serving.disaggregation": [[2, None], [1, {"bandwidth": "1 GB/s"}]]}
    moesim.sweep({**base, "sweep": axis}, out=tmp_path / "sweep")
    found = read_sweep(tmp_path / "sweep")
    assert found.table.status.tolist() == ["ok", "ok"]
    assert gpus_of(found).tolist() == [2, 2]
    columns = {one.axis: one for one in board_of(found).columns}
    own = columns["serving.disaggregation"]
    assert set(own.texts) == set(own.order) == {"-", "bandwidth 1 GB/s"}
    assert "nan" not in repr(found)


def test_prompts_that_share_a_prefix_send_less():
    """A session's prompt begins with what was said: what the instance that decodes still has of it
    is not sent again.
    """
    result = run(POISSON, memory={"kv": "40 blocks"})
    assert result.summary["completed"] == 12  # few blocks: those that wait for some get them
    assert result.summary["mean_kv_wait_ms"] > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"serving": {"replicas": 2}}, "replicas; write how many prefill and decode"),
        ({"workload": {"phase": "decode"}}, "phase: decode, which has no prompts"),
        ({"workload": {"batching": {"scheduler": {"kind": "sglang"}}}}, "'sglang' yet; write vllm"),
        ({"workload": {"batching": {"scheduler": {"kind": "vllm", "policy": "priority"}}}},
         "policy: priority yet; write fcfs"),
        ({"host_layers": 1}, "layers of the host"),
        ({"experts": {"policy": {"kind": "min"}}}, "looks ahead; write one that does not"),
        ({"memory": {"split": {"kind": "kv_first"}}}, "'kv_first' of memory yet; write static"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(more, said):
    served = {
        "workload": {"batching": {"kind": "continuous"}},
        "serving": {"disaggregation": APART},
    }
    given: dict[str, Any] = {**SMALL, **served}
    for key, value in more.items():
        both = {**given[key], **value} if isinstance(given.get(key), dict) else value
        given[key] = both
    if "workload" in more and "batching" in more["workload"]:
        given["workload"]["batching"] = {"kind": "continuous", **more["workload"]["batching"]}
    with pytest.raises(InputError) as caught:
        load_experiment(given)
    assert "disaggregation does not go together with" in str(caught.value)
    assert said in str(caught.value)


def test_machines_without_a_network_need_a_bandwidth():
    given = experiment_of(POISSON, serving={"disaggregation": {}})
    with pytest.raises(InputError, match=r"bandwidth: .* has no network.*write one, as in 50 GB/s"):
        simulate(given)


def test_a_run_of_first_steps_has_one_engine():
    with pytest.raises(InputError, match="leave replicas and disaggregation out"):
        simulate(experiment_of(POISSON, serving={"disaggregation": APART}), limit_steps=2)


@pytest.mark.parametrize("serving", [None, {"replicas": 2}, {"disaggregation": APART}])
def test_too_few_blocks_are_told_by_number(serving):
    """40 + 12 tokens, of which the last is not kept, in blocks of 16."""
    lengths = {"kind": "fixed", "input_len": 40, "output_len": 12}
    said = "the shortest, of 52 tokens, needs 4 blocks of keys and values of 3 that there are"
    with pytest.raises(InputError, match=said):
        run_fixed(lengths, POISSON, memory={"kv": "3 blocks"}, serving=serving)


@pytest.mark.parametrize("key", ["serving.router", "serving.disaggregation.router"])
def test_no_router_goes_by_experts_yet(key):
    """Also where all experts are in slots: that is said of replicas."""
    given = experiment_of(POISSON).model_dump(mode="json", exclude_unset=True)
    serving: dict[str, Any] = {"disaggregation": dict(APART)}
    own = serving if key == "serving.router" else serving["disaggregation"]
    own["router"] = {"kind": "expert"}
    given |= {"serving": serving, "experts": {"capacity": "all"}}
    with pytest.raises(InputError) as caught:
        load_experiment(given)
    said = f"{key}: 'expert' does not go together with disaggregation yet; write another"
    assert said in str(caught.value)


def test_who_runs_over_time_is_the_sum_of_all_instances():
    """As each last decided; a step has the instance of its GPU."""
    steps = run(POISSON).steps
    assert set(steps.instance) == {0, 1, 2}
    prefill = steps.instance < 2
    assert (steps.decode_tokens[prefill] == 0).all()
    assert (steps.prompt_tokens[~prefill] == 0).all()
    told = of_instances(steps, steps.running).sum(axis=1).tolist()
    last = dict.fromkeys(range(3), 0)
    for row, instance, running in zip(told, steps.instance, steps.running, strict=True):
        last[instance] = running
        assert row == sum(last.values())


def test_rejected_requests_go_nowhere():
    result = run(POISSON, memory={"kv": "5 blocks"})
    numbers = result.summary
    assert numbers["rejected"] > 0
    assert numbers["completed"] + numbers["rejected"] == 12
    gone = result.requests[~result.requests.completed]
    assert (gone.prefill_replica == -1).all()
    assert (gone.kv_bytes == 0).all()
    assert np.isnan(gone.ttft_ms).all()
