"""Planned on the first part of a run, judged on the rest, written to a file and run from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.place import judge_planners
from moesim.results import rebuild
from moesim.results.folder import read_provenance
from moesim.trace import read_trace, write_trace
from moesim.trace.slicing import slice_trace

BATCH = {"batching": {"kind": "refill", "batch_size": 16}}
BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "v100-sxm2-32gb",
    "trace": "traces/quickstart.parquet",
    "workload": BATCH,
    "parallelism": {"expert": 4},
    "placement": {"kind": "greedy"},
}
EVEN = 1 / 4


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A file of the experiment in the working directory, beside the first tokens of requests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traces").mkdir()
    whole = read_trace(shipped_folder() / BASE["trace"])
    write_trace(slice_trace(whole, slice(0, 24), tokens=12), tmp_path / BASE["trace"])
    path = tmp_path / "place.yaml"
    path.write_text(json.dumps(BASE))
    return path


def placed(placement, **choices):
    return moesim.run({**BASE, **choices, "placement": placement}, limit_steps=10)


def same_times(one, other):
    for table in ("steps", "layers"):
        assert getattr(one, table).equals(getattr(other, table)), table


def test_a_plan_runs_as_its_planner_does(experiment, capsys):
    assert main(["place", str(experiment), "-o", "plan.json"]) == 0
    assert "plan: plan.json" in capsys.readouterr().out
    same_times(placed({"kind": "greedy"}), placed({"kind": "plan", "file": "plan.json"}))
    plan = json.loads((experiment.parent / "plan.json").read_text())
    assert plan["planner"] == {"kind": "greedy", "first_part": "50 %"}
    assert plan["planned_passes"] == -(-plan["passes"] // 2)
    assert {len(row) for row in plan["physical_to_logical_map"]} == {32}
    assert EVEN <= plan["lower_bound"] <= plan["planned"]["max_load"]


def test_replicas_run_and_take_memory(experiment):
    main(
        ["place", str(experiment), "-o", "p.json", "--set", "placement={kind: eplb, redundant: 4}"]
    )
    with_replicas, without = placed({"kind": "plan", "file": "p.json"}), placed({"kind": "eplb"})
    assert with_replicas.summary["local_experts"] == 9
    memory = [r.summary["memory_bytes"]["weights"] for r in (with_replicas, without)]
    assert memory[0] > memory[1]
    assert with_replicas.summary["dropped_choices"] == 0


def test_the_rest_is_judged_apart(experiment):
    judged = judge_planners(load_experiment(BASE).experiment, compare=True)
    assert 0 < judged.planned < judged.passes
    plans = {plan.name: plan for plan in judged.plans}
    assert {"contiguous", "optimal", "eplb, redundant 4"} <= set(plans)
    assert judged.plans[0].name == "greedy"
    for plan in judged.plans:
        for part in plan.balance.values():
            average, most, balance = (
                part[key] for key in ("average_max_load", "max_load", "balancedness")
            )
            assert average is not None
            assert most is not None
            assert balance is not None
            assert EVEN <= average <= most <= 1
            assert EVEN <= balance <= 1
    grouped, spread = plans["affinity"].stays, plans["random"].stays
    assert grouped is not None
    assert spread is not None
    assert grouped > spread
    assert plans["eplb, redundant 4"].stays is None
    assert plans["greedy"].balance["rest"] != plans["greedy"].balance["planned"]


def test_balance_is_that_of_the_run(experiment):
    """All passes of the run, whatever the planner: what a run's summary says."""
    (plan,) = judge_planners(load_experiment(BASE).experiment).plans
    summary = moesim.run(BASE).summary
    for name, value in plan.balance["whole"].items():
        assert summary[name] == pytest.approx(value)


def test_a_run_of_a_plan_is_repeated_from_its_folder(experiment, tmp_path):
    main(["place", str(experiment), "-o", "plan.json"])
    choices = {**BASE, "placement": {"kind": "plan", "file": "plan.json"}}
    result = moesim.run(choices, out="out", limit_steps=10)
    assert "plan" in read_provenance(tmp_path / "out")["inputs"]
    again = rebuild("out")
    assert again["placement"]["file"] == str(tmp_path / "plan.json")
    same_times(result, moesim.run(again, limit_steps=10))


@pytest.mark.parametrize("kind", ["static", "gshard"])
def test_gatings_that_pad_take_no_replicas(kind):
    choices = {**BASE, "gating": {"kind": kind}, "placement": {"kind": "eplb", "redundant": 4}}
    with pytest.raises(InputError, match=f"4 replicas a layer, but '{kind}' gating pads"):
        load_experiment(choices)


def test_a_plan_for_other_gpus(experiment):
    main(["place", str(experiment), "-o", "plan.json"])
    plan = {"kind": "plan", "file": "plan.json"}
    with pytest.raises(InputError, match="a plan for 4 GPUs, not 2"):
        load_experiment({**BASE, "parallelism": {"expert": 2}, "placement": plan})


def test_records_name_logical_experts(experiment):
    """Whatever the order on the GPUs, a layer's spans name the experts that its tokens chose."""
    spans = [placed({"kind": kind}, records="expert").spans for kind in ("contiguous", "random")]
    named = [
        {
            (step, layer): set(",".join(part["experts"]).split(","))
            for (step, layer), part in kernels.groupby(["step", "layer"])
        }
        for one in spans
        for kernels in [one[one["name"] == "experts"]]
    ]
    assert named[0] == named[1]
    assert len(named[0]) == 240


@pytest.mark.parametrize(("redundant", "told"), [(0, True), (4, False)])
def test_a_bound_is_told_beside_plans_without_replicas(experiment, capsys, redundant, told):
    """One of a plan with replicas is lower, and says nothing of those without."""
    placement = f"placement={{kind: eplb, redundant: {redundant}, groups: 2, window: 123456}}"
    assert main(["place", str(experiment), "--set", placement]) == 0
    shown = capsys.readouterr().out
    assert ("has a planned max load below" in shown.replace("\n", " ")) == told
    assert "…" not in shown  # a long name takes more lines, not the room of numbers


def test_planners_are_told_one_by_one(experiment):
    told = []
    plans = moesim.place(
        experiment, compare=True, progress=lambda *standing: told.append(standing)
    ).plans
    assert told == [(number, len(plans)) for number in range(1, len(plans) + 1)]
