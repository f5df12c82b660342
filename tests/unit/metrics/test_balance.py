"""Loads of GPUs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from moesim.engine.counts import Loads
from moesim.metrics.balance import balance

rows_of = arrays(np.int64, array_shapes(min_dims=3, max_dims=3, max_side=9), elements={
    "min_value": 0, "max_value": 5,
})  # fmt: skip


@given(rows_of)
def test_sums_and_largest_of_all_gpus(rows: np.ndarray) -> None:
    loads = Loads.of(rows)
    np.testing.assert_array_equal(loads.total, rows.sum(axis=2))
    np.testing.assert_array_equal(loads.largest, rows.max(axis=2))
    assert balance(loads.since(len(rows) // 2)) == balance(Loads.of(rows[len(rows) // 2 :]))
