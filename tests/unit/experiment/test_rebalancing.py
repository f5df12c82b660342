"""Experiments whose experts get other places during the run."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.report.run.trust import trust_lines

RUN: dict[str, Any] = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "small-moe",
    "workload": {"requests": 8, "batching": {"kind": "static", "batch_size": 8}},
    "parallelism": {"expert": 2},
    "experts": {"capacity": "all"},
}
EPLB = {"kind": "eplb", "interval": 10, "window": 10}


def summary_of(placement: dict[str, Any], **more: Any) -> dict[str, Any]:
    experiment = load_experiment({**RUN, "placement": placement, **more}).experiment
    return simulate(experiment).summary


def test_experts_move_to_where_rows_are_fewer():
    stays, moves = summary_of({"kind": "contiguous"}), summary_of(EPLB)
    assert "rebalancings" not in stays
    assert moves["rebalancings"] == (moves["steps"] - 1) // 10
    assert moves["rebalanced_bytes"] > 0
    assert moves["balancedness"] > stays["balancedness"]
    assert moves["tokens"] == stays["tokens"]
    assert 0 < moves["time_share"]["rebalancing"] < 1


def waited_ms(summary: dict[str, Any]) -> float:
    """Of a GPU."""
    return float(summary["time_share"]["rebalancing"] * summary["duration_ms"])


def test_what_of_moving_beside_passes_gpus_wait_for_is_told():
    beside = summary_of({**EPLB, "interval": 30, "mode": "async"})
    assert beside["rebalancings"] > 0
    (note,) = [line for line in trust_lines(beside) if line.startswith("note: placement: ")]
    assert f"{beside['rebalanced_bytes'] / 1e9:.3g} GB" in note
    waited = waited_ms(beside)
    in_all = waited + beside["rebalanced_beside_ms"]
    assert f"(mode: async) in {in_all:,.3g} ms, of which GPUs waited {waited:,.3g}" in note


def test_what_moves_beside_passes_takes_of_the_links_what_gpus_would_wait_for():
    """Of one plan, which both make of the same choices, and whose layers all have passes left."""
    steps = summary_of({"kind": "contiguous"})["steps"]
    once = {**EPLB, "interval": steps - steps // 3}
    waits, beside = summary_of(once), summary_of({**once, "mode": "async"})
    assert waits["rebalancings"] == beside["rebalancings"] == 1
    assert waits["rebalanced_bytes"] == beside["rebalanced_bytes"] > 0
    assert 0 < waited_ms(beside) < waited_ms(waits)
    hidden = waited_ms(waits) - waited_ms(beside)
    assert beside["rebalanced_beside_ms"] == pytest.approx(hidden)
    assert waits["rebalanced_beside_ms"] == 0


def test_a_run_that_is_too_short_for_any_move_says_so():
    steps = summary_of({"kind": "contiguous"})["steps"]
    short = summary_of({**EPLB, "interval": steps})
    assert short["rebalancings"] == 0
    (note,) = short["placement_notes"]
    assert note.startswith(f"{steps} steps of the run are no more than placement.interval, {steps}")
    assert "placement_notes" not in summary_of({**EPLB, "interval": steps - 1})


def test_replicas_that_are_too_short_for_any_move_say_so():
    """By the steps of one of them; together they have more than the interval."""
    served: dict[str, Any] = {
        "requests": 16,
        "arrivals": {"kind": "poisson", "request_rate": "2000 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 16, "output_len": 16},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous"},
    }
    given = {**RUN, "workload": served, "serving": {"replicas": 2}, "records": "step"}
    stays = simulate(load_experiment(given).experiment)
    assert stays.steps is not None
    most = int(stays.steps["instance"].value_counts().max())
    assert most < stays.summary["steps"]
    more = {"workload": served, "serving": {"replicas": 2}}
    short = summary_of({**EPLB, "interval": most}, **more)
    assert short["rebalancings"] == 0
    (note,) = short["placement_notes"]
    assert note.startswith(f"{most} steps of the replica with most are no more than placement.")
    assert "placement_notes" not in summary_of({**EPLB, "interval": most - 1}, **more)


def test_of_experts_that_gpus_wait_for_no_note_says_that_they_go_beside_passes():
    assert "placement_notes" not in summary_of(EPLB)
    even = summary_of({**EPLB, "mode": "async", "interval": 30, "min_utilization": "10 %"})
    assert "placement_notes" not in even


def test_a_plan_takes_its_time_where_gpus_wait():
    """As long for each plan, to the nanosecond."""
    at_once, slow = summary_of(EPLB), summary_of({**EPLB, "planning": "1 ms"})
    assert slow["duration_ms"] == pytest.approx(at_once["duration_ms"] + at_once["rebalancings"])


def test_what_is_even_enough_stays():
    assert summary_of({**EPLB, "min_utilization": "10 %"})["rebalancings"] == 0


def run_by_step(placement: dict[str, Any]) -> tuple[Any, Any]:
    """Kernels of experts, and the experts of each step and layer, on all GPUs."""
    given = {**RUN, "placement": placement, "records": "expert"}
    spans = simulate(load_experiment(given).experiment).spans
    spans = spans[(spans["engine"] == "compute") & (spans["experts"] != "")]
    spans = spans.assign(experts=spans["experts"].str.split(",")).explode("experts")
    found = spans.groupby(["step", "layer"])["experts"].agg(set)
    return spans, found.to_dict()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_records_of_single_experts_go_by_the_places_that_they_have(mode: str) -> None:
    interval = 30 if mode == "async" else 10
    stays, chosen = run_by_step({"kind": "contiguous"})
    moves, same = run_by_step({**EPLB, "interval": interval, "mode": mode})
    assert same == chosen
    keys = ["layer", "experts"]
    assert (stays.groupby(keys)["gpu"].nunique() == 1).all()
    assert (moves[moves["step"] < interval].groupby(keys)["gpu"].nunique() == 1).all()
    assert (moves.groupby(["step", *keys])["gpu"].nunique() == 1).all()
    assert (moves.groupby(keys)["gpu"].nunique() > 1).any()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"experts": {"capacity": "8 slots/layer"}}, "not all on GPUs yet; write all"),
        ({"parallelism": {"expert": 1}}, "one GPU, which has them all"),
        ({"gating": {"kind": "static"}}, "which pads; write dynamic"),
        ({"placement": {**EPLB, "mode": "async"}, "model": "small-moe"}, "a layer a pass"),
    ],
)
def test_what_does_not_go_together_is_one_line(more, said):
    if "async" in str(more):
        more["placement"]["interval"] = 1
    with pytest.raises(InputError) as caught:
        load_experiment({**RUN, "placement": EPLB, **more})
    assert said in str(caught.value)
