"""Runs by other rules of routing: what stays the same, and what falls by how much."""

from __future__ import annotations

from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.results import Result


def run(*routing: dict[str, Any], **experts: Any) -> Result:
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4090",
        "trace": "gpt-oss-20b",
        "workload": {"requests": 2},
        "experts": {"capacity": "12 slots/layer", **experts},
        "routing": list(routing),
    }
    return moesim.run(source, limit_steps=200)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "prune", "keep": "100 %"},
        {"kind": "threshold", "epsilon": 0.0},
        {"kind": "top_k", "k": 4},
    ],
)
def test_a_rule_that_keeps_all_changes_no_nanosecond(rule: dict[str, Any]) -> None:
    without, same = run(), run(rule)
    columns = [name for name in without.steps.columns if name != "block"]
    assert same.steps[columns].equals(without.steps[columns])
    assert same.summary["memory_bytes"] == without.summary["memory_bytes"]
    assert same.summary["gate_weight_lost"] == 0
    assert "gate_weight_lost" not in without.summary


def test_bytes_of_experts_and_routers_fall_exactly_by_keep() -> None:
    model = load_model("gpt-oss-20b")
    routed = [layer.moe for layer in model.moe_layers if layer.moe]
    experts = sum(moe.experts * moe.expert.bytes for moe in routed)
    routers = sum(moe.router_bytes for moe in routed)
    every = run(capacity="all").summary
    for keep, quarters in (("75 %", 3), ("50 %", 2)):
        found = run({"kind": "prune", "keep": keep}, capacity="all").summary
        gone = every["memory_bytes"]["weights"] - found["memory_bytes"]["weights"]
        assert gone == (experts + routers) * (4 - quarters) // 4
        assert {row["experts"] for row in found["routing_by_layer"]} == {8 * quarters}


def test_what_fits_misses_nothing() -> None:
    found = run({"kind": "prune", "keep": "37.5 %"}).summary  # 12 experts in 12 slots
    assert found["misses"] == 0
    assert run().summary["misses"] > 0
    assert found["gate_weight_lost_held_out"] >= found["gate_weight_lost_learnt"]


def test_one_expert_a_layer_computes_the_same_expert_for_all() -> None:
    found = run({"kind": "prune", "keep": "3.125 %"}).summary
    assert {row["experts"] for row in found["routing_by_layer"]} == {1}
    assert found["misses"] == 0
    assert found["mean_choices"] <= 1


def test_fewer_choices_load_fewer_bytes() -> None:
    bytes_by_k = [run({"kind": "top_k", "k": k}).summary["bytes_h2d"] for k in (4, 3, 2, 1)]
    assert bytes_by_k == sorted(bytes_by_k, reverse=True)
    assert bytes_by_k[-1] < bytes_by_k[0]


def test_a_token_that_has_its_step_alone_has_its_own_k() -> None:
    """The largest of four shares is above an eighth: the threshold leaves each token one."""
    alone, above = (run({"kind": k, "epsilon": 4.0}) for k in ("threshold_top_k", "threshold"))
    assert alone.steps["accesses"].tolist() == above.steps["accesses"].tolist()
    assert len(set(above.steps["accesses"])) > 1


def test_a_rule_that_cannot_be_is_told() -> None:
    with pytest.raises(InputError, match="predicted_ids; record them"):
        run({"kind": "predicted"})
    with pytest.raises(InputError, match=r"routing\.0"):
        run({"kind": "prune"})
