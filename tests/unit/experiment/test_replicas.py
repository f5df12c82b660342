"""Experiments whose requests replicas share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.engine.replicas import play_replicas
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import (
    blind_routers,
    dispatched_otherwise,
    lone_routers,
    others_schedulers,
)
from moesim.experiment.running.run import simulate
from moesim.report.figures.throughput_vs_latency import gpus_of
from moesim.results.result import Result
from moesim.sweep.found import read_sweep
from moesim.workload.batching.continuous import Continuous
from moesim.workload.serving import registry as schedulers
from tests.unit.experiment.test_served_numbers import CLOSED, POISSON, SMALL, experiment_of

ROUTER = {"kind": "least_outstanding"}
ADDED = ("tokens", "hits", "misses", "bytes_h2d", "completed", "total_output_tokens")


def run(arrivals: dict[str, Any], count: int = 3, *, check: bool = False, **more: Any) -> Result:
    serving = {"replicas": count, "router": ROUTER, "price_interval": "never"}
    choices = {"software": "vllm", "experts": {"capacity": "8 slots/layer"}, **more}
    return simulate(experiment_of(arrivals, serving=serving, **choices), check=check)


@pytest.mark.parametrize("arrivals", [POISSON, CLOSED, {"kind": "at_once"}])
def test_both_engines_play_replicas_alike(arrivals):
    replay, des = run(arrivals), run(arrivals, check=True)
    assert (replay.summary["engine"], des.summary["engine"]) == ("replay", "des")
    same = [*ADDED, "duration_ms", "mean_ttft_ms", "p99_itl_ms", "time_share", "balancedness"]
    assert [replay.summary[key] for key in same] == [des.summary[key] for key in same]
    columns = ["replica", "gpu", "first_token_ns", "last_token_ns", "ttft_ms", "ttft_queue_ms"]
    for name in columns:
        assert replay.requests[name].tolist() == des.requests[name].tolist()


def test_replicas_that_prefetch_have_all_numbers_but_those_of_a_run_without():
    experts = {"capacity": "8 slots/layer", "prefetch": {"kind": "oracle", "layers": 2}}
    des, replay = (run(POISSON, check=check, experts=experts).summary for check in (True, False))
    assert replay["prefetches"] > 0
    keys = [*ADDED, "duration_ms", "prefetches", "prefetches_used", "prefetches_cancelled"]
    assert [replay[key] for key in keys] == [des[key] for key in keys]
    assert replay["stall_without_prefetch_ms"] is None
    assert run(POISSON, 1, experts=experts).summary["stall_without_prefetch_ms"] > 0


def test_all_replicas_together_are_one_result():
    """Each request ran on one replica, whose GPU it names; the sums are those of the steps; at any
    time a GPU has one pass.
    """
    result = run(POISSON)
    numbers, table, steps = result.summary, result.requests, result.steps
    assert numbers["completed"] == 12 == len(table)
    assert set(table.replica) == {0, 1, 2}
    assert (table.gpu == table.replica).all()  # one GPU each
    assert numbers["tokens"] == steps.tokens.sum()
    assert numbers["hits"] + numbers["misses"] == steps.activations.sum()
    assert sum(numbers["time_share"].values()) == pytest.approx(1)
    assert (np.diff(steps.end_ns) >= 0).all()
    parts = [one for one in map(str, table) if one.startswith("ttft_") and one != "ttft_ms"]
    assert table[parts].sum(axis=1).to_numpy() == pytest.approx(table.ttft_ms, abs=1e-6)
    assert numbers["balancedness"] == 1
    assert 0 < numbers["kv_usage_max"] <= 1


def test_replicas_of_several_gpus():
    result = run(POISSON, 2, check=True, parallelism={"expert": 2})
    assert (result.requests.gpu // 2 == result.requests.replica).all()
    assert 0.5 < result.summary["balancedness"] <= 1


def test_replicas_of_many_steps():
    """More than a scheduler has room for at first."""
    workload = {
        "requests": 12,
        "arrivals": POISSON,
        "lengths": {"kind": "fixed", "input_len": 9, "output_len": 90},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm", "max_num_seqs": 1}},
    }
    given = {**SMALL, "workload": workload, "serving": {"replicas": 3, "router": ROUTER}}
    numbers = simulate(load_experiment(given).experiment).summary
    assert numbers["steps"] == 12 * 90 > 1024
    assert numbers["completed"] == 12
    assert 0 < numbers["kv_usage_mean"] <= numbers["kv_usage_max"] <= 1


@pytest.mark.parametrize("count", [1, 2])
def test_clients_of_a_closed_loop_send_again_as_they_have_the_last_token(count):
    """Which is later than the end on the GPU by the host's work after the step and the way."""
    requests = run(CLOSED, count).requests
    ends, clients = np.sort(requests.last_token_ns), 3
    assert requests.arrival_ns.tolist() == [*clients * [0], *ends[:-clients].tolist()]


def test_one_replica_is_none():
    """Intervals of times included, for which a run is played again."""
    given = {"software": "vllm", "experts": {"capacity": "8 slots/layer"}}
    serving = {"replicas": 1, "router": ROUTER}
    alone = simulate(experiment_of(POISSON, **given)).summary
    one = simulate(experiment_of(POISSON, serving=serving, **given)).summary
    assert {k: v for k, v in one.items() if k != "engine_wall_s"} == {
        k: v for k, v in alone.items() if k != "engine_wall_s"
    }


def test_a_replica_may_have_nothing_to_do():
    """All requests come far apart: the first replica has them all, since none has any then."""
    rare = {"kind": "gamma", "request_rate": "1 requests/s", "burstiness": 50}
    assert set(run(rare).requests.replica) == {0}


def test_an_error_behind_the_last_step_ends_the_run():
    """A replica that fails as it counts would else be one that had nothing to do."""
    case = build(experiment_of(POISSON, serving={"replicas": 2, "router": ROUTER})).case

    def play(case: Case) -> Outcome:
        run_replay(case)
        raise InputError("counted wrongly")

    with pytest.raises(InputError, match="counted wrongly"):
        play_replicas(case, play)


def test_a_sweep_over_replicas(tmp_path):
    """The second replica takes requests off the first; a figure counts its GPU too."""
    base = experiment_of(POISSON).model_dump(mode="json", exclude_unset=True)
    moesim.sweep({**base, "sweep": {"serving.replicas": [1, 2]}}, out=tmp_path / "sweep")
    sweep = read_sweep(tmp_path / "sweep")
    assert sweep.table.status.tolist() == ["ok", "ok"]
    assert sweep.table.completed.tolist() == [12, 12]
    assert sweep.table.mean_e2el_ms.is_monotonic_decreasing
    assert gpus_of(sweep).tolist() == [1, 2]


def test_axes_of_routers():
    kinds = ["random", "vllm"]
    served = {**SMALL, "workload": {"batching": {"kind": "continuous"}}}
    for axis in (
        {"serving.router.kind": kinds},
        {"serving.router": [{"kind": kind} for kind in kinds]},
    ):
        points = load_experiment({**served, "serving": {"replicas": 2}, "sweep": axis}).points
        routed = [point.model_dump()["serving"] for _, point in points]
        assert [(one["replicas"], one["router"]["kind"]) for one in routed] == [
            (2, "random"),
            (2, "vllm"),
        ]


@pytest.mark.parametrize(
    ("serving", "place"),
    [
        ({"replicas": 0}, "serving.replicas: 0 is too small"),
        ({"router": {"kind": "rando"}}, "serving.router.kind: 'rando' is not known"),
        (
            {"count": 2},
            "serving.count: is not a known key; allowed: disaggregation, ",
        ),
    ],
)
def test_a_mistake_has_its_key(serving, place):
    served = {**SMALL, "workload": {"batching": {"kind": "continuous"}}}
    with pytest.raises(InputError) as caught:
        load_experiment({**served, "serving": serving})
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"workload": {"batching": {"kind": "static"}}}, "serving: is of clients"),
        ({"experts": {"policy": {"kind": "min"}}}, "serving.replicas: replicas do not go together"),
        ({"experts": {"policy": {"kind": "min"}}}, "looks ahead; write one that does not"),
    ],
)
def test_what_does_not_go_together_is_one_line(more, said):
    served = {"workload": {"batching": {"kind": "continuous"}}}
    with pytest.raises(InputError) as caught:
        load_experiment({**SMALL, **served, "serving": {"replicas": 2}, **more})
    assert said in str(caught.value)


def test_both_engines_route_by_experts_alike():
    serving = {"replicas": 3, "router": {"kind": "expert"}}
    given = {"software": "vllm", "experts": {"capacity": "8 slots/layer"}, "serving": serving}
    replay, des = (simulate(experiment_of(POISSON, **given), check=one) for one in (False, True))
    assert (replay.summary["engine"], des.summary["engine"]) == ("replay", "des")
    for name in ("replica", "first_token_ns", "last_token_ns"):
        assert replay.requests[name].tolist() == des.requests[name].tolist()
    assert replay.summary["misses"] == des.summary["misses"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"serving": {"router": {"kind": "expert"}}}, "a single replica; write replicas: 2"),
        ({"experts": {"capacity": "all"}}, "all experts in slots, where every replica has them"),
        ({"workload": {"phase": "decode"}}, "phase: decode, whose prompts are computed elsewhere"),
        (
            {"serving": {"disaggregation": {}, "router": {"kind": "expert"}}},
            "disaggregation yet; write another",
        ),
    ],
)
def test_experts_need_something_to_go_by(more, said):
    served: dict[str, Any] = {"phase": "all", "batching": {"kind": "continuous"}}
    given = {
        **SMALL,
        "experts": {"capacity": "8 slots/layer"},
        "serving": {"replicas": 2, "router": {"kind": "expert"}},
        **more,
        "workload": {**served, **more.get("workload", {})},
    }
    with pytest.raises(InputError) as caught:
        load_experiment(given)
    assert "serving.router: 'expert' does not go together with" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("serving", "keys"),
    [
        ({"router": ROUTER}, ["serving.router"]),
        ({"replicas": 2, "router": ROUTER}, []),
        ({"replicas": 1}, []),
        (
            {"router": ROUTER, "disaggregation": {"router": ROUTER}},
            ["serving.router", "serving.disaggregation.router"],
        ),
        (
            {"router": ROUTER, "disaggregation": {"prefill": 2, "router": ROUTER}},
            ["serving.disaggregation.router"],
        ),
    ],
)
def test_a_router_without_a_choice_is_said(serving, keys):
    """But not where another point of a sweep gives it one."""
    one = experiment_of(POISSON, serving=serving)
    said = [f"warning: {key}: 'least_outstanding' has one instance to choose" for key in keys]
    found = lone_routers([one])
    assert [line.split(",")[0] for line in found] == said
    several = {"prefill": 2, "decode": 2, "router": ROUTER}
    other = {"router": ROUTER, "disaggregation": several}
    assert lone_routers([one, experiment_of(POISSON, serving=other)]) == []


@pytest.mark.parametrize("kind", ["prefix", "session"])
def test_a_router_that_sees_nothing_of_what_it_goes_by_is_said(kind):
    """And goes by the fewest requests, as it is told to."""
    blind, plain = (
        experiment_of(POISSON, serving={"replicas": 3, "router": {"kind": one}})
        for one in (kind, "least_outstanding")
    )
    (said,) = blind_routers([blind, plain])
    assert said.startswith(f"warning: serving.router: '{kind}' goes by ")
    assert said.endswith("of arrivals 'poisson' there is none, and it goes by the fewest requests")
    replicas = [list(simulate(one).requests["replica"]) for one in (blind, plain)]
    assert replicas[0] == replicas[1]
    assert blind_routers([plain]) == []


@pytest.mark.parametrize(
    ("software", "scheduler", "own"),
    [
        ("sglang", "vllm", "sglang"),
        ("vllm@0.19", "trtllm", "vllm"),
        ("vllm-marlin", "vllm", ""),
        ("llama.cpp", "vllm", "llama.cpp"),
        ("llama.cpp", "llama.cpp", ""),
        ("ideal", "sglang", ""),
    ],
)
def test_another_engines_scheduler_is_said(software, scheduler, own):
    """A sweep over software alone compared three engines under the rules of vLLM."""
    one = experiment_of(POISSON, software=software)
    batching = Continuous(scheduler=schedulers.components[scheduler]())
    workload = one.workload.model_copy(update={"batching": batching})
    found = others_schedulers([one.model_copy(update={"workload": workload})])
    told = f"'{scheduler}' schedules for the software '{software}'; write scheduler: "
    assert [told + f"{{kind: {own}}}" in line for line in found] == [True] * bool(own)


SERVED = {"model": "gpt-oss-120b", "hardware": "h200-sxm"}


@pytest.mark.parametrize(
    ("software", "written", "kind"),
    [
        ("sglang", None, "sglang"),
        ("sglang", {"max_num_seqs": 8}, "sglang"),
        ("sglang", {"max_num_batched_tokens": 2048}, "vllm"),  # which is no key of SGLang's
        ("sglang", "vllm", "vllm"),
        ("sglang", {"kind": "vllm"}, "vllm"),
        ("trtllm", None, "trtllm"),
        ("ik_llama.cpp", None, "llama.cpp"),
        ("ideal", None, "vllm"),
    ],
)
def test_software_has_its_own_scheduler(software, written, kind):
    batching = {"kind": "continuous"} | ({} if written is None else {"scheduler": written})
    workload = {"requests": 8, "batching": batching}
    found = load_experiment({**SERVED, "software": software, "workload": workload})
    assert found.experiment.workload.batching.model_dump()["scheduler"]["kind"] == kind
    said = found.origins["workload.batching.scheduler.kind"]
    assert (said == "default") == (not isinstance(written, str) and "kind" not in (written or ()))


@pytest.mark.parametrize("written", [3, [{"a": 1}], "sglan", {"kind": 3}, {"no": 1}])
def test_a_scheduler_that_is_none_is_told_whatever_the_software(written):
    """A number had been a traceback, where the software has a scheduler of its own."""
    workload = {"requests": 8, "batching": {"kind": "continuous", "scheduler": written}}
    with pytest.raises(InputError, match=r"workload\.batching\.scheduler"):
        load_experiment({**SERVED, "software": "sglang", "workload": workload})


def test_each_software_of_a_sweep_has_its_own_scheduler():
    key = "workload.batching.scheduler.max_num_seqs"
    sweep = {"software": ["vllm", "sglang"], key: [8, 16]}
    workload = {"requests": 8, "batching": "continuous"}
    points = load_experiment({**SERVED, "workload": workload, "sweep": sweep}).points
    found = [one.workload.batching.model_dump()["scheduler"] for _, one in points]
    assert [(one["kind"], one["max_num_seqs"]) for one in found] == [
        (kind, seats) for kind in ("vllm", "sglang") for seats in (8, 16)
    ]


EIGHT_GPUS = {
    "model": "gpt-oss-120b",
    "hardware": "h200-sxm",
    "software": "vllm",
    "parallelism": {"expert": 8},
    "workload": {"requests": 8, "batching": {"kind": "continuous"}},
}


def test_tensorrt_llm_sends_a_token_once():
    source = {**EIGHT_GPUS, "software": "trtllm", "decide": "device"}
    (line,) = dispatched_otherwise([load_experiment(source).experiment])
    assert "write exchange: deduplicated" in line
    source["parallelism"] = {"expert": 8, "exchange": "deduplicated"}
    assert not dispatched_otherwise([load_experiment(source).experiment])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, True),
        ({"parallelism": {"expert": 8, "exchange": "all_gather"}}, False),
        ({"parallelism": {"expert": 8, "dense": "tensor"}}, False),
        ({"parallelism": {"expert": 8, "experts": "tensor"}}, False),
        ({"parallelism": {"expert": 1}}, False),
        ({"software": "sglang"}, False),
        ({"decide": "device"}, False),
    ],
)
def test_vllm_does_not_dispatch_unless_it_is_told(changed, told):
    lines = dispatched_otherwise([load_experiment({**EIGHT_GPUS, **changed}).experiment])
    assert bool(lines) == told
    assert all("write exchange: all_gather" in line for line in lines)
