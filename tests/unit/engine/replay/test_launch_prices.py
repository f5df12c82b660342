"""Prices of launches whose experts have a row each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment


@pytest.mark.parametrize("hardware", ["h100-sxm", "rtx-4060-8gb"])
def test_few_rows_cost_the_same_in_layers_that_choose_more_or_fewer(hardware: str) -> None:
    experiment: dict[str, Any] = {
        "model": "gpt-oss-20b", "hardware": hardware, "workload": {"requests": 2},
        "trace": "traces/quickstart.parquet", "experts": {"capacity": "4 slots/layer"},
        "routing": [{"kind": "gate_ratio", "least": 2, "ratio": "40 %"}],
    }  # fmt: skip
    case = build(load_experiment(experiment).experiment).case
    most = case.trace.top_k
    few, every = LaunchPrices(case, most), LaunchPrices(case)
    assert len(few.specs) < len(every.specs) / 2
    prices = every.single_row_ns[every.kinds, : 1 + most]
    np.testing.assert_array_equal(few.single_row_ns[few.kinds], prices)
    rests_on = [Provenance(case.prices) for _ in (few, every)]
    for launches, provenance in zip((few, every), rests_on, strict=True):
        for number in range(1 + most):
            launches.of_rows(7 * number, number)
        launches.settle(provenance)
    (one,), (other,) = (provenance.totals().values() for provenance in rests_on)
    np.testing.assert_array_equal(one, other)
