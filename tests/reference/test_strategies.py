"""What the strategies draw is worth drawing; ``test_variety.py`` has what some draws only have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .agreement import verdict_of
from .strategies import Case, cases, needs_exceed_slots
from .strategies_prefetch import prefetching_cases


@pytest.mark.parametrize("drawn", [cases(), prefetching_cases()], ids=["cases", "prefetching"])
def test_a_third_of_the_draws_need_more_experts_than_slots(drawn: st.SearchStrategy[Case]) -> None:
    exceeded: list[bool] = []

    @settings(max_examples=60, derandomize=True, database=None)
    @given(drawn)
    def draw(case: Case) -> None:
        exceeded.append(needs_exceed_slots(case, verdict_of(case)))

    draw()
    assert 3 * sum(exceeded) >= len(exceeded) >= 60
