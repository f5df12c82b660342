"""How many tokens steps have."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moesim.workload.serving.requests.passes import sums_between


@given(st.lists(st.lists(st.integers(1, 2**30), max_size=4), max_size=6), st.integers(0, 3))
def test_steps_without_entries_have_no_tokens(steps: list[list[int]], before: int) -> None:
    """Also where the last one has none, and sums are beyond 32 bits."""
    counts = np.array([7] * before + [one for step in steps for one in step], np.int32)
    bounds = before + np.append(0, np.cumsum([len(step) for step in steps])).astype(np.int64)
    assert sums_between(counts, bounds).tolist() == [sum(step) for step in steps]
