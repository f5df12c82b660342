"""Several formats of every expert: both engines against the reference."""

from __future__ import annotations

from hypothesis import given

from .agreement import agree
from .strategies import Case
from .strategies_variants import variant_cases


@given(variant_cases())
def test_all_agree(case: Case) -> None:
    """And what became of every choice is what serves its expert."""
    agree(case)
