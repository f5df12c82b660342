"""Runs leave their case as it was."""

from __future__ import annotations

import moesim
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build


def test_a_policy_with_buffers_of_its_own_leaves_the_slots_of_the_case() -> None:
    source = {
        "model": "gpt-oss-20b",
        "hardware": "h100-sxm",
        "trace": "traces/quickstart.parquet",
        "workload": {"phase": "decode"},
        "experts": {"capacity": "1 slots/layer", "policy": {"kind": "stream", "buffers": 33}},
    }
    case = build(moesim.load_experiment(source).experiment, 5).case
    hits = [int(run_replay(case).counts.hits.sum()) for _ in range(2)]
    assert case.slots.tolist() == [[1] * 24]
    assert hits == [0, 0]
