"""Runs by other rules of routing: what stays the same, and what falls by how much."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.routing import TOKENS, tokens_of
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.model import load_model
from moesim.results import Result
from moesim.sweep.speeds import losses_in_words, ranked
from moesim.trace import NO_EXPERT, Phase, read_trace, write_trace
from moesim.trace.rules import read_rules
from moesim.trace.transforming import transform


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


RULES = [
    {"kind": "top_p", "p": "70 %"},
    {"kind": "gate_ratio", "least": 1, "ratio": "40 %"},
    {"kind": "prune", "keep": "50 %", "then": "drop"},
]


@pytest.mark.parametrize("engine", ["replay", "des"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["kind"])
def test_a_kernel_goes_by_the_tokens_of_its_pass(
    rule: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    """By hand, launch by launch, of prompts of 57 to 511 tokens whose experts are all in memory: a
    kernel does not go as if each token took ``top_k``.
    """
    recorded, file = read_trace("traces/quickstart.parquet"), tmp_path / "prompts.parquet"
    write_trace(replace(recorded, phase=np.full_like(recorded.phase, Phase.PREFILL)), file)
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4090",
        "trace": str(file),
        "workload": {"phase": "prefill"},
        "experts": {"capacity": "all"},
        "routing": [rule],
        "engine": engine,
    }
    case = build(load_experiment(source).experiment).case
    expected, otherwise = [], []
    for low, high in pairwise(case.schedule.offsets.tolist()):
        ids, prices = case.trace.expert_ids[case.schedule.routing_rows[low:high]], []
        for place, layer in enumerate(case.model.moe_layers):
            chosen = ids[:, place][ids[:, place] != NO_EXPERT]
            shape = layer, np.unique(chosen, return_counts=True)[1], np.zeros(1, int)
            told = np.array([high - low])
            prices.append([int(case.prices.experts_ns(*shape, *of)[0]) for of in ([told], [])])
        expected.append(sum(price for price, _ in prices))
        otherwise.append(sum(price for _, price in prices))
    found = moesim.run(source).steps["experts_ns"].tolist()
    assert found == expected
    assert found != otherwise


def test_shares_of_passes_by_hand() -> None:
    """189 choices of 64 tokens: half of them are as of 32, and all are of 64."""
    share, rows = np.full(3, 64 * TOKENS + 189), np.array([189, 94, 1])
    assert tokens_of(share, rows).tolist() == [64, 32, 1]


@pytest.mark.parametrize("engine", ["replay", "des"])
def test_a_trace_that_was_transformed_before_runs_as_one_that_the_experiment_transforms(
    engine: str, tmp_path: Path
) -> None:
    """Prompts, so that a launch's rows do not tell its tokens."""
    rule, file = {"kind": "gate_ratio", "least": 1, "ratio": "40 %"}, tmp_path / "fewer.parquet"
    recorded, prompts = read_trace("traces/quickstart.parquet"), tmp_path / "prompts.parquet"
    recorded = replace(recorded, phase=np.full_like(recorded.phase, Phase.PREFILL))
    write_trace(recorded, prompts)
    write_trace(transform(recorded, read_rules(json.dumps(rule))).trace, file)
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4090",
        "workload": {"phase": "prefill"},
        "experts": {"capacity": "all"},
        "engine": engine,
    }
    before = moesim.run({**source, "trace": str(file)})
    inside = moesim.run({**source, "trace": str(prompts), "routing": [rule]})
    assert before.steps["experts_ns"].equals(inside.steps["experts_ns"])


@pytest.mark.parametrize("rule", [*RULES, {"kind": "top_k", "k": 2}], ids=lambda rule: rule["kind"])
def test_a_trace_that_was_transformed_before_says_what_it_lost(
    rule: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "fewer.parquet"
    write_trace(transform(read_trace("quickstart"), read_rules(json.dumps(rule))).trace, file)
    source = {"model": "gpt-oss-20b", "hardware": "rtx-4090", "records": "summary",
              "experts": {"capacity": "12 slots/layer"}}  # fmt: skip
    inside, before = (
        moesim.run({**source, "trace": trace, "routing": routing}, limit_steps=20).summary
        for trace, routing in (("quickstart", [rule]), (str(file), []))
    )
    keys = ["mean_choices", "recorded_choices", "cut_share", "routing_by_layer"]
    keys += [key for key in inside if key.startswith("gate_weight_lost")]
    assert {key: before[key] for key in keys} == {key: inside[key] for key in keys}
    assert before["gate_weight_lost"] > 0
    assert before["routing_notes"][-1].startswith("the trace was transformed before: {kind: ")
    assert set(before) - {"routing_notes"} == set(inside) - {"routing_notes"}


def test_the_star_is_not_for_a_trace_that_was_cut_before(tmp_path: Path) -> None:
    own = read_trace("quickstart")
    files: list[str] = []
    told: list[str] = []
    for rule in ("{kind: top_k, k: 2}", "{kind: prune, keep: 50 %}"):
        files.append(str(tmp_path / f"{len(files)}.parquet"))
        write_trace(transform(own, read_rules(rule)).trace, files[-1])
    found = moesim.sweep({
        "model": "gpt-oss-20b",
        "hardware": "rtx-4060-8gb",
        "workload": {"requests": 1},
        "experts": {"capacity": "12 slots/layer"},
        "sweep": {"trace": ["quickstart", *files]},
    }, out=tmp_path / "sweep", warn=told.append)  # fmt: skip
    table = found.table
    assert ranked(table).index.tolist() == [0]
    assert set(ranked(table, allow_drops=True).index[:2]) == {1, 2}
    assert losses_in_words(table.iloc[[1]]) == "cuts 38.5 % of gate weight"
    unknown = table.iloc[[1]].assign(gate_weight_lost=None, cut_share=0.5)
    assert losses_in_words(unknown) == "cuts 50.0 % of choices"
