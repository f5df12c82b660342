"""Prices of launches whose experts have a row each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment


@pytest.mark.parametrize("hardware", ["h100-sxm", "rtx-4060-8gb"])
def test_a_launch_of_one_token_costs_the_same_whether_it_is_told(hardware: str) -> None:
    """Layers differ by their window alone, not by how many experts their tokens choose."""
    experiment: dict[str, Any] = {
        "model": "gpt-oss-20b", "hardware": hardware, "workload": {"requests": 2},
        "trace": "traces/quickstart.parquet", "experts": {"capacity": "4 slots/layer"},
        "routing": [{"kind": "gate_ratio", "least": 2, "ratio": "40 %"}],
    }  # fmt: skip
    case = build(load_experiment(experiment).experiment).case
    launches, start = LaunchPrices(case, case.trace.top_k), np.zeros(1, np.int64)
    assert len(launches.specs) == 2
    for spec, of_rows in zip(launches.specs, launches.single_row_ns.tolist(), strict=True):
        for rows in range(1, 1 + case.trace.top_k):
            shape = spec, np.ones(rows, np.int64), start
            assert case.prices.experts_ns(*shape, np.ones(1, np.int64)).tolist() == [of_rows[rows]]
