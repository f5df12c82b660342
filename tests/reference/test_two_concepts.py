"""Concepts that may go together, drawn together: both engines against the reference."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from .agreement import agree
from .strategies import Case
from .strategies_host import copied_layer_cases, storage_cases
from .strategies_prefetch import prefetching_cases
from .strategies_variants import variant_cases


@st.composite
def joined_cases(draw: st.DrawFn) -> Case:
    """Copied layers, prefetches, reads from storage or variants, beside drafts, unpacked experts or
    both.
    """
    one = st.one_of(copied_layer_cases(), prefetching_cases(), storage_cases(), variant_cases())
    case = draw(one)
    drafts, unpacks = draw(st.sampled_from([(1, False), (0, True), (2, True)]))
    chances = st.lists(st.sampled_from([0.0, 0.25, 0.75, 1.0]), min_size=drafts, max_size=drafts)
    config = replace(case.config, chances=tuple(draw(chances)), drafts=drafts, unpacks=unpacks)
    prices = replace(case.prices, unpacking=draw(st.integers(1, 60)) if unpacks else 0)
    return replace(case, config=config, prices=prices)


@given(joined_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)
