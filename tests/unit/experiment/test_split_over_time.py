"""Slots of experts and blocks of keys and values that change places as a run goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from tests.reference.agreement import assert_same

KINDS = ["static", "kv_first", "experts_first", "marginal"]


def experiment_of(split: dict[str, Any], **choices: Any) -> Any:
    """Twelve requests in little room: some are preempted."""
    given = {
        "model": "small-moe",
        "hardware": "rtx-4060-8gb",
        "trace": "small-moe",
        "records": "step",
        "workload": {
            "requests": 12,
            "arrivals": {"kind": "poisson", "request_rate": "300 requests/s"},
            "lengths": {"kind": "random", "input_len": 60, "output_len": 40, "range_ratio": 0.5},
            "routing": {"kind": "draw"},
            "batching": {
                "kind": "continuous",
                "scheduler": {"kind": "vllm", "max_num_batched_tokens": 64},
            },
        },
        "experts": {"capacity": "8 slots/layer"},
        "memory": {"kv": "30 blocks", "split": split},
        **choices,
    }
    return load_experiment(given).experiment


@pytest.mark.parametrize("arrivals", ["poisson", "at_once"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_both_engines_say_the_same(kind: str, arrivals: str) -> None:
    split = {"kind": kind, **({"interval": 5} if kind == "marginal" else {})}
    one = experiment_of(split)
    if arrivals == "at_once":
        workload = one.workload.model_copy(
            update={"arrivals": load_experiment({**BASE}).experiment.workload.arrivals}
        )
        one = one.model_copy(update={"workload": workload})
    case = build(one).case
    assert case.exchanges
    des = run_des(case, check=True)
    assert_same(run_replay(case), des)
    given = des.schedule.given
    assert given is not None
    assert (given != 0).any()
    assert (case.slots.min() - given >= 1).all()


BASE: dict[str, Any] = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "small-moe",
    "workload": {"batching": {"kind": "continuous"}},
}


def test_experts_that_give_way_spare_preemptions_and_miss_more() -> None:
    static, first = (simulate(experiment_of({"kind": kind})) for kind in KINDS[:2])
    assert static.summary["preemptions"] > first.summary["preemptions"]
    assert first.summary["hit_ratio_per_expert"] < static.summary["hit_ratio_per_expert"]
    for name in ("completed", "total_output_tokens"):
        assert static.summary[name] == first.summary[name]


def test_experts_that_take_what_is_free_miss_less_and_preempt_more() -> None:
    static, first = (simulate(experiment_of({"kind": kind})) for kind in (KINDS[0], KINDS[2]))
    assert first.summary["hit_ratio_per_expert"] > static.summary["hit_ratio_per_expert"]
    assert static.summary["preemptions"] <= first.summary["preemptions"]


def test_a_split_that_never_moves_is_the_static_one() -> None:
    """Experts that may give nothing: the same run, to the nanosecond."""
    static = build(experiment_of({"kind": "static"})).case
    fixed = build(experiment_of({"kind": "kv_first", "min_slots": 8})).case
    one, other = run_replay(static), run_replay(fixed)
    assert np.array_equal(one.ends, other.ends)
    assert np.array_equal(one.counts.hits, other.counts.hits)


def test_all_experts_may_be_there_at_first() -> None:
    one = experiment_of({"kind": "kv_first"}, experts={"capacity": "all"})
    case = build(one).case
    des = run_des(case, check=True)
    assert_same(run_replay(case), des)
    assert 0 < int(des.counts.misses.sum()) < int(des.counts.activations.sum())


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"experts": {"capacity": "8 slots/layer", "policy": {"kind": "arc"}}}, "counts its slots"),
        (
            {"experts": {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}},
            "prefetches yet",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(choices: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        experiment_of({"kind": "kv_first"}, **choices)


@pytest.mark.parametrize("kind", ["kv_first", "marginal"])
@pytest.mark.parametrize(
    ("slots", "told"), [(9, "fewer, or more experts.capacity"), (10_000, "all experts of a GPU")]
)
def test_experts_that_keep_more_slots_than_they_have_are_refused(kind, slots, told) -> None:
    with pytest.raises(InputError, match=rf"memory.split.min_slots: .*{told}"):
        build(experiment_of({"kind": kind, "min_slots": slots}))
