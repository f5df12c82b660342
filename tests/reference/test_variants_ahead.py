"""Prefetches of experts that are kept in several formats: both engines, the reference, and laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from .agreement import agree, verdict_of
from .reference_words import Prefetch
from .strategies import Case
from .strategies_variants import prefetching_variants


@given(prefetching_variants())
def test_all_agree(case: Case) -> None:
    agree(case)


@given(prefetching_variants())
def test_a_prefetch_that_predicts_nothing_is_none(case: Case) -> None:
    nothing = replace(case.config.prefetch, kind="oracle", recall=0.0, precision=1.0, cost=0)
    found, other = (verdict_of(case, prefetch=one) for one in (nothing, Prefetch()))
    for name in ("duration_ns", "bytes_h2d", "hits", "misses"):
        assert getattr(found, name) == getattr(other, name)
