"""What a point's values are called in labels."""

from __future__ import annotations

import pandas as pd
import pytest

from moesim.sweep.words import word


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("experts.policy.kind", "lru", "lru"),
        ("workload.batching.batch_size", 16, "batch size 16"),
        ("workload.prefill.chunk", 16, "chunk 16"),
        ("experts.capacity", "all", "all experts"),
        ("experts.capacity", "8 slots/layer", "8 slots/layer"),
        ("workload.prefill.chunk", pd.NA, "no chunk"),
        ("workload.prefill.chunk", None, "no chunk"),
    ],
)
def test_a_value_is_named_where_it_needs_a_name(axis, value, expected):
    assert word(axis, value) == expected
